/* SPDX-License-Identifier: GPL-2.0-only */
/* The life of a connection: attempts, failures and why, how long the handshake and the whole took, how many are open.
 * inet_sock_set_state fires about ten times for a connection within one machine; most transitions leave at the first test. */
#ifndef FL_CONNECTIONS_H
#define FL_CONNECTIONS_H

/* skc_num is 0 before the kernel has chosen a port and again at ->CLOSE (inet_put_port()); inet_sport keeps it. */
static __always_inline u16 local_port_of(struct sock *sk, struct tcp_sock *tp)
{
	u16 port = FIELD(sk, __sk_common.skc_num);

	return port ? port : bpf_ntohs(FIELD(tp, inet_conn.icsk_inet.inet_sport));
}

/* A connect that was seen before its source port was known, and whose flow row needs the port. */
static __always_inline void count_late_connect(struct fl_settings *set, struct fl_socket *s, const struct ends *ends)
{
	if (!s->uncounted_connect)
		return;
	s->uncounted_connect = 0;
	count(set, &s->owner, METRIC_CONNECT, 0, 0, 1, 0, ends);
}

/* Hooks and the iterator over files may look at the same socket at once: whoever sets the flag adds the one, whoever takes it
 * takes the one off. */
static __always_inline void mark_open(struct fl_settings *set, struct fl_socket *s)
{
	int mine, how;

	LOCK(s);
	mine = !s->open && s->told != TCP_CLOSE;
	if (mine)
		s->open = OPEN_COUNTED;
	UNLOCK(s);
	if (!mine)
		return;
	how = count(set, &s->owner, METRIC_CONNECTIONS, 0, 0, 1, 0, 0);
	if (how != OPEN_COUNTED)
		s->open = how;
}

static __always_inline void unmark_open(struct fl_socket *s)
{
	struct fl_key key = {};
	u8 how;

	LOCK(s);
	how = s->open;
	s->open = OPEN_NO;
	UNLOCK(s);
	if (how == OPEN_NO)
		return;
	key.family = s->owner.family;
	key.role = s->owner.role;
	key.metric = METRIC_CONNECTIONS;
	if (how == OPEN_COUNTED_AS_OTHER) {
		add_other(&key, -1, 0);
		return;
	}
	key.cgroup = s->owner.cgroup;
	key.netns = s->owner.netns;
	key.pid = s->owner.pid;
	add_total(&key, -1, 0);
}

static __always_inline int begin_connect(struct fl_settings *set, struct sock *sk, struct tcp_sock *tp)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct fl_socket *s = SOCKET_NEW(sockets, sk);
	struct fl_owner owner = {};
	struct ends ends = {};
	u16 port = FIELD(sk, __sk_common.skc_num);

	owner_of(&owner, set, tp, ROLE_CLIENT, pid);
	ends_of(&ends, &sk->__sk_common, owner.family, port, pid);
	if (s) {
		s->owner = owner;
		s->since_ns = bpf_ktime_get_ns();
		s->pid = pid;
		s->retransmitted = FIELD(tp, total_retrans); /* a second connect() on a socket goes on from the first */
		s->listener = 0;
		s->open = OPEN_NO;
		s->error = 0;
		s->told = TCP_SYN_SENT;
		s->uncounted_connect = !port && (set->masks[METRIC_CONNECT] & FIELD_SRC_PORT);
		if (s->uncounted_connect)
			s->uncounted_connect = wanted(set, ROLE_CLIENT, port, ends.remote_port);
		if (set->masks[METRIC_CONNECT] & FIELD_SRC_PORT && !port)
			return 0;
	} else {
		lost(LOSS_SOCKETS_NO_MEMORY);
	}
	if (wanted(set, ROLE_CLIENT, port, ends.remote_port))
		count(set, &owner, METRIC_CONNECT, 0, 0, 1, 0, &ends);
	return 0;
}

static __always_inline int begin_listen(struct fl_settings *set, struct sock *sk, struct tcp_sock *tp)
{
	u32 pid = bpf_get_current_pid_tgid() >> 32;
	struct fl_socket *s = SOCKET_NEW(sockets, sk);

	if (!s) {
		lost(LOSS_SOCKETS_NO_MEMORY);
		return 0;
	}
	s->pid = pid;
	owner_of(&s->owner, set, tp, ROLE_SERVER, pid);
	s->listener = 1;
	s->since_ns = 0;
	s->open = OPEN_NO;
	s->uncounted_connect = 0;
	s->told = TCP_LISTEN;
	SOCKET_LISTENS(sockets, sk);
	return 0;
}

/* Who listened there before us, for a socket whose listener had nothing to pass on. */
static __always_inline u32 noted_listener(struct sock *sk)
{
	struct fl_listener end = {};
	u32 *pid;

	find_end(&end, sk);
	pid = bpf_map_lookup_elem(MAP(listeners), &end);
	return pid ? *pid : 0;
}

/* Runs in softirq or in the client's task: nothing here may ask who is current. */
static __always_inline int accepted(struct fl_settings *set, struct sock *sk, struct tcp_sock *tp, struct fl_socket *s)
{
	u32 pid = s && s->pid ? s->pid : noted_listener(sk);
	struct fl_owner owner = {};
	struct ends ends = {};

	owner_of(&owner, set, tp, ROLE_SERVER, pid);
	ends_of(&ends, &sk->__sk_common, owner.family, FIELD(sk, __sk_common.skc_num), pid);
	if (s) {
		s->owner = owner;
		s->pid = pid;
		s->listener = 0;
		s->open = OPEN_NO;
		s->uncounted_connect = 0;
		s->since_ns = bpf_ktime_get_ns();
		s->retransmitted = FIELD(tp, total_retrans); /* starts at the retransmissions of its SYN-ACK */
	} else {
		lost(LOSS_SOCKETS_NO_MEMORY);
	}
	if (!wanted(set, ROLE_SERVER, ends.local_port, ends.remote_port))
		return 0;
	count(set, &owner, METRIC_ACCEPT, 0, 0, 1, 0, &ends);
	if (s)
		mark_open(set, s);
	return 0;
}

static __always_inline int connected(struct fl_settings *set, struct sock *sk, struct fl_socket *s)
{
	u64 now = bpf_ktime_get_ns(), started = s->since_ns;
	struct ends ends = {};

	s->since_ns = now;
	ends_of(&ends, &sk->__sk_common, s->owner.family, FIELD(sk, __sk_common.skc_num), s->pid);
	count_late_connect(set, s, &ends);
	if (!wanted(set, ROLE_CLIENT, ends.local_port, ends.remote_port))
		return 0;
	if (started)
		observe(set, &s->owner, METRIC_CONNECT_DURATION, HISTOGRAM_CONNECT_DURATION, now - started, &ends);
	mark_open(set, s);
	return 0;
}

static __always_inline int connect_failed(struct fl_settings *set, struct sock *sk, struct tcp_sock *tp, struct fl_socket *s)
{
	struct fl_owner owner = {};
	struct ends ends = {};

	if (s && s->owner.netns)
		owner = s->owner;
	else
		owner_of(&owner, set, tp, ROLE_CLIENT, 0);
	ends_of(&ends, &sk->__sk_common, owner.family, local_port_of(sk, tp), s ? s->pid : 0);
	if (s)
		count_late_connect(set, s, &ends);
	if (wanted(set, ROLE_CLIENT, ends.local_port, ends.remote_port))
		count(set, &owner, METRIC_CONNECT_FAILURES, failure_of(sk, tp, s), 0, 1, 0, &ends);
	return 0;
}

/* The totals are taken here and not in tcp_destroy_sock: an abortive close has zeroed them by then. */
static __always_inline int ended(struct fl_settings *set, struct sock *sk, struct tcp_sock *tp, struct fl_socket *s)
{
	struct ends ends = {};
	u64 since = s->since_ns;

	ends_of(&ends, &sk->__sk_common, s->owner.family, local_port_of(sk, tp), s->pid);
	count_late_connect(set, s, &ends);
	unmark_open(s);
	if (!wanted(set, s->owner.role, ends.local_port, ends.remote_port))
		return 0;
	if (since)
		observe(set, &s->owner, METRIC_CONNECTION_DURATION, HISTOGRAM_CONNECTION_DURATION, bpf_ktime_get_ns() - since,
			&ends);
	count_uncounted_segments(set, tp, s, &ends);
	return 0;
}

/* A connection opened or ended. An event is counted by whichever program is told of it first; the socket remembers that. */
static __always_inline int opened_or_ended(struct sock *sk, int old, int new, int again)
{
	struct tcp_sock *tp = TCP(sk);
	struct fl_settings *set;
	struct fl_socket *s;
	int client;

	if (!tp)
		return 0;
	/* Made even for a socket that closes unknown to us, or the iterator could adopt it a moment later. */
	s = old == TCP_SYN_RECV ? SOCKET_ACCEPTED(sockets, sk) : SOCKET_NEW(sockets, sk);
	if (s ? s->told == new : again)
		return 0;
	set = settings_now();
	if (!set)
		return 0;
	if (s)
		s->told = new;
	client = s && s->owner.role == ROLE_CLIENT;
	if (new == TCP_CLOSE) {
		if (old == TCP_SYN_SENT || (old == TCP_SYN_RECV && client)) /* the latter where both ends connected at once */
			return connect_failed(set, sk, tp, s);
		return s && !s->listener ? ended(set, sk, tp, s) : 0;
	}
	if (old == TCP_SYN_RECV && !client)
		return accepted(set, sk, tp, s);
	return client ? connected(set, sk, s) : 0;
}

HOOK(inet_sock_set_state, struct sock *sk, int old, int new)
{
	struct fl_settings *set;
	struct tcp_sock *tp;

	if (old == TCP_LISTEN) /* a listener that closes is no connection */
		return 0;
	if (new == TCP_ESTABLISHED || new == TCP_CLOSE)
		return opened_or_ended(sk, old, new, 0);
	if (new != TCP_SYN_SENT &&new != TCP_LISTEN)
		return 0;
	set = settings_now();
	tp = TCP(sk);
	if (!set || !tp)
		return 0;
	return new == TCP_SYN_SENT ? begin_connect(set, sk, tp) : begin_listen(set, sk, tp);
}

/* The kernel does not run a program on top of itself: an event of a packet or a timer that interrupts this very program is kept
 * from it. On CPUs that serve applications and network cards alike that is up to one in a hundred (decision 0004), so there are
 * two programs, and what interrupts one is told to the other. Connects and listens come from system calls, which interrupt
 * nothing. */
AGAIN(inet_sock_set_state, struct sock *sk, int old, int new)
{
	if (old == TCP_LISTEN || (new != TCP_ESTABLISHED &&new != TCP_CLOSE))
		return 0;
	return opened_or_ended(sk, old, new, 1);
}

#endif
