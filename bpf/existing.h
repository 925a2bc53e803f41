/* SPDX-License-Identifier: GPL-2.0-only */
/* Sockets that were there before the agent, and the list of what is open now. Iterators: they run when user space reads. */
#ifndef FL_EXISTING_H
#define FL_EXISTING_H

#if SOCKET_STORAGE
struct fl_listener {
	u32 netns;
	u32 port;
};

HASH_MAP(listeners, struct fl_listener, u32, 16384); /* pid by netns and port; only filled while adopting */

static __always_inline void adopt_listener(struct fl_settings *set, struct sock *sk, u32 pid)
{
	struct fl_socket *s = SOCKET_NEW(sockets, sk);
	struct fl_listener key = {};

	key.netns = FIELD(sk, __sk_common.skc_net.net)->ns.inum;
	key.port = FIELD(sk, __sk_common.skc_num);
	bpf_map_update_elem(MAP(listeners), &key, &pid, BPF_NOEXIST);
	if (!s || s->listener)
		return;
	s->pid = pid;
	s->listener = 1;
	owner_of(&s->owner, set, sk, ROLE_SERVER, pid);
}

/* The number to add to the gauge for what the settings want of this socket, and its flag with it. */
static __always_inline void adopt_connection(struct fl_settings *set, struct sock *sk, struct tcp_sock *tp, u32 pid)
{
	struct fl_socket *s = SOCKET_NEW(sockets, sk);
	struct fl_listener key = {};
	struct fl_owner owner = {};
	struct fl_key row = {};
	u32 *listening, retransmitted = FIELD(tp, total_retrans);
	u16 remote = bpf_ntohs(FIELD(sk, __sk_common.skc_dport));
	int want, opens = 0, closes = 0, how = OPEN_COUNTED;

	if (!s)
		return;
	key.netns = FIELD(sk, __sk_common.skc_net.net)->ns.inum;
	key.port = FIELD(sk, __sk_common.skc_num);
	listening = bpf_map_lookup_elem(MAP(listeners), &key);
	owner_of(&owner, set, sk, listening ? ROLE_SERVER : ROLE_CLIENT, listening ? *listening : pid);
	LOCK(s);
	if (!s->owner.netns || (s->owner.role == ROLE_UNKNOWN && !s->listener)) {
		s->owner = owner;
		s->pid = listening ? *listening : pid;
		s->retransmitted = retransmitted;
	}
	if (set->flags & FLAG_REBASE)
		s->retransmitted = retransmitted;
	owner = s->owner;
	UNLOCK(s);
	want = enabled(set, METRIC_CONNECTIONS) && wanted(set, owner.role, key.port, remote);
	row.cgroup = owner.cgroup;
	row.netns = owner.netns;
	row.pid = owner.pid;
	row.family = owner.family;
	row.role = owner.role;
	row.metric = METRIC_CONNECTIONS;
	if (want && !s->open)
		how = add_total(&row, 1, 0); /* before the flag: the hook that closes it must find the one to take off */
	LOCK(s);
	if (want && !s->open) {
		if (!s->closed)
			s->open = how;
		else
			closes = 1; /* it closed meanwhile */
	} else if (!want && s->open) {
		s->open = OPEN_NO;
		opens = 1;
	}
	UNLOCK(s);
	if (closes || opens)
		add_total(&row, -1, 0);
}

FILES(adopt)
{
	struct fl_settings *set = settings_now();
	struct task_struct *task = ctx->task;
	struct file *file = ctx->file;
	struct socket *socket;
	struct tcp_sock *tp;
	struct sock *sk;
	u8 state;

	if (!set || !task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = FIELD(socket, sk);
	if (!sk)
		return 0;
	tp = TCP(sk);
	if (!tp)
		return 0;
	state = FIELD(sk, __sk_common.skc_state);
	if (state == TCP_LISTEN)
		adopt_listener(set, sk, FIELD(task, tgid));
	else if (set->flags & FLAG_ADOPT_CONNECTIONS && state != TCP_CLOSE && state != TCP_SYN_SENT && state != TCP_SYN_RECV)
		adopt_connection(set, sk, tp, FIELD(task, tgid));
	return 0;
}

/* Writes one masked `struct fl_flow` per open connection: a gauge with flow labels is a list, not a sum of ups and downs, so a
 * change of labels cannot leave it wrong. */
SWEEP(live)
{
	struct fl_settings *set = settings_now();
	struct fl_flow flow = {};
	struct ends ends = {};
	struct sock *sk = ctx->sk;
	struct fl_socket *s;

	if (!set || !sk)
		return 0;
	s = SOCKET_GET(sockets, sk);
	if (!s || !s->open)
		return 0;
	flow.key.cgroup = s->owner.cgroup;
	flow.key.netns = s->owner.netns;
	flow.key.pid = s->owner.pid;
	flow.key.family = s->owner.family;
	flow.key.role = s->owner.role;
	flow.key.metric = METRIC_CONNECTIONS;
	ends_of(&ends, &sk->__sk_common, s->owner.family, FIELD(sk, __sk_common.skc_num), s->pid);
	mask_ends(&flow, set, &ends, set->masks[METRIC_CONNECTIONS]);
	bpf_seq_write(FIELD(ctx->meta, seq), &flow, sizeof(flow));
	return 0;
}
#else
/* Not at ->CLOSE: resets are reported after it and need the owner. */
HOOK(tcp_destroy_sock, struct sock *sk)
{
	SOCKET_DROP(sockets, sk);
	return 0;
}
#endif

#endif
