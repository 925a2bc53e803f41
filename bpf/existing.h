/* SPDX-License-Identifier: GPL-2.0-only */
/* Sockets that were there before the agent, and the list of what is open now. Iterators: they run when user space reads. */
#ifndef FL_EXISTING_H
#define FL_EXISTING_H

#if SOCKET_STORAGE
static __always_inline void adopt_listener(struct fl_settings *set, struct sock *sk, struct tcp_sock *tp, u32 pid)
{
	struct fl_socket *s = SOCKET_NEW(sockets, sk);

	if (!s || s->listener)
		return;
	s->pid = pid;
	s->listener = 1;
	owner_of(&s->owner, set, tp, ROLE_SERVER, pid);
}

static __always_inline void adopt_connection(struct fl_settings *set, struct sock *sk, struct tcp_sock *tp, u32 pid)
{
	u16 remote = bpf_ntohs(FIELD(sk, __sk_common.skc_dport));
	u32 *listening, retransmitted = FIELD(tp, total_retrans);
	struct fl_socket *s = SOCKET_NEW(sockets, sk);
	struct fl_listener end = {};
	struct fl_owner owner = {};

	if (!s)
		return;
	find_end(&end, sk);
	listening = bpf_map_lookup_elem(MAP(listeners), &end);
	pid = listening ? *listening : pid;
	owner_of(&owner, set, tp, listening ? ROLE_SERVER : ROLE_CLIENT, pid);
	LOCK(s);
	if (!s->owner.netns || (s->owner.role == ROLE_UNKNOWN && !s->listener)) {
		s->owner = owner;
		s->pid = pid;
		s->retransmitted = retransmitted;
	}
	if (set->flags & FLAG_REBASE)
		s->retransmitted = retransmitted;
	s->listener = 0; /* else its listener's copy still, from a time when nobody looked */
	UNLOCK(s);
	if (enabled(set, METRIC_CONNECTIONS) && wanted(set, s->owner.role, end.port, remote))
		mark_open(set, s);
	else
		unmark_open(s);
}

/* Go programs listen with MPTCP unless told otherwise: the file is an MPTCP socket then, and the TCP socket that accepts is its
 * first subflow, which no file shows. The note by port is how what it accepts finds its pid. */
static __always_inline void adopt_listening(struct fl_settings *set, struct sock *sk, struct tcp_sock *tp, u32 pid)
{
	struct fl_listener end = {};

	find_end(&end, sk);
	bpf_map_update_elem(MAP(listeners), &end, &pid, BPF_NOEXIST);
	if (tp)
		adopt_listener(set, sk, tp, pid);
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
	u16 protocol;

	if (!set || !task || !file)
		return 0;
	socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	sk = FIELD(socket, sk);
	if (!sk)
		return 0;
	protocol = FIELD(sk, sk_protocol);
	if (protocol != FL_IPPROTO_TCP && protocol != FL_IPPROTO_MPTCP)
		return 0;
	tp = TCP(sk);
	state = FIELD(sk, __sk_common.skc_state);
	if (state == TCP_LISTEN)
		adopt_listening(set, sk, tp, FIELD(task, tgid));
	else if (tp && set->flags & FLAG_ADOPT_CONNECTIONS && state != TCP_CLOSE && state != TCP_SYN_SENT &&
		 state != TCP_SYN_RECV)
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

/* For what interrupts the former: an entry that stays would be taken for that of the next socket at this address. */
AGAIN(tcp_destroy_sock, struct sock *sk)
{
	SOCKET_DROP(sockets, sk);
	return 0;
}
#endif

#endif
