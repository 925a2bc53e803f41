/* SPDX-License-Identifier: GPL-2.0-only */
/* Retransmissions of sockets and of SYN-ACKs, by what made the kernel retransmit and in which part of the connection's life.
 * Segments are the gain of tp->total_retrans since the socket was last looked at: it is raised before the tracepoint fires, also
 * where one call carries many segments, and RetransSegs counts in the same place (__tcp_retransmit_skb()). */
#ifndef FL_RETRANSMITS_H
#define FL_RETRANSMITS_H

enum { KIND_SYN, KIND_RTO, KIND_FAST, KIND_TLP, KIND_REORDER, KIND_OTHER };
enum { PHASE_CONNECT, PHASE_DATA, PHASE_CLOSE, PHASES };
enum { CA_RECOVERY = 3, CA_LOSS = 4, TIMER_LOSS_PROBE = 5, TIMER_REORDER = 6 };

static __always_inline u16 phase_of(u8 state)
{
	if (state == TCP_SYN_SENT || state == TCP_SYN_RECV)
		return PHASE_CONNECT;
	return state == TCP_ESTABLISHED || state == TCP_CLOSE_WAIT ? PHASE_DATA : PHASE_CLOSE;
}

/* icsk_pending alone does not tell who retransmits: an ACK may while a timer is armed. In its own handler the timer is off the
 * wheel, so its pprev is NULL (detach_timer()). Kernels that moved the timer elsewhere: believe icsk_pending. */
static __always_inline int in_timer(struct tcp_sock *tp)
{
	if (EXISTS(inet_connection_sock, icsk_retransmit_timer))
		return !FIELD(tp, inet_conn.icsk_retransmit_timer.entry.pprev);
	return 1;
}

static __always_inline u16 kind_of(struct tcp_sock *tp, u8 state)
{
	u8 congestion = BITS(inet_connection_sock, &tp->inet_conn, icsk_ca_state);
	u8 pending = FIELD(tp, inet_conn.icsk_pending);

	if (state == TCP_SYN_SENT || state == TCP_SYN_RECV)
		return KIND_SYN;
	if (congestion == CA_LOSS)
		return KIND_RTO;
	if (congestion == CA_RECOVERY)
		return pending == TIMER_REORDER && in_timer(tp) ? KIND_REORDER : KIND_FAST;
	return pending == TIMER_LOSS_PROBE ? KIND_TLP : KIND_OTHER;
}

/* What no tracepoint told: on kernels before 6.17 a retransmission that failed locally is counted but not traced. */
static __always_inline void count_uncounted_segments(struct fl_settings *set, struct tcp_sock *tp, struct fl_socket *s,
						     const struct ends *ends)
{
	u32 gained = FIELD(tp, total_retrans) - s->retransmitted;

	if (!gained || !s->since_ns)
		return;
	s->retransmitted += gained;
	count(set, &s->owner, METRIC_RETRANSMIT_SEGMENTS, KIND_OTHER * PHASES + PHASE_CLOSE, 0, gained, 0, ends);
}

/* A socket that we meet here for the first time: take this call's segments, leave what went before. */
static __always_inline struct fl_socket *meet(struct fl_settings *set, struct sock *sk, struct tcp_sock *tp, struct sk_buff *skb)
{
	struct fl_socket *s = SOCKET_NEW(sockets, sk);

	if (!s)
		return 0;
	owner_of(&s->owner, set, tp, ROLE_UNKNOWN, 0);
	s->retransmitted = FIELD(tp, total_retrans) - PEEK((struct tcp_skb_cb *)skb->cb, tcp_gso_segs);
	return s;
}

HOOK(tcp_retransmit_skb, struct sock *sk, struct sk_buff *skb)
{
	struct fl_settings *set = settings_now();
	struct tcp_sock *tp = TCP(sk);
	struct fl_owner owner = {};
	struct ends ends = {};
	struct fl_socket *s;
	u32 gained;
	u16 detail;
	u8 state;

	if (!set || !tp)
		return 0;
	s = SOCKET_GET(sockets, sk);
	if (!s)
		s = meet(set, sk, tp, skb);
	if (s) {
		owner = s->owner;
		gained = FIELD(tp, total_retrans) - s->retransmitted;
		s->retransmitted += gained;
	} else {
		lost(LOSS_SOCKETS_NO_MEMORY);
		owner_of(&owner, set, tp, ROLE_UNKNOWN, 0);
		gained = PEEK((struct tcp_skb_cb *)skb->cb, tcp_gso_segs);
	}
	ends_of(&ends, &sk->__sk_common, owner.family, FIELD(sk, __sk_common.skc_num), s ? s->pid : 0);
	if (!wanted(set, owner.role, ends.local_port, ends.remote_port))
		return 0;
	if (s && s->uncounted_connect) {
		s->uncounted_connect = 0;
		count(set, &owner, METRIC_CONNECT, 0, 0, 1, 0, &ends);
	}
	state = FIELD(sk, __sk_common.skc_state);
	detail = kind_of(tp, state) * PHASES + phase_of(state);
	count(set, &owner, METRIC_RETRANSMIT, detail, 0, 1, 0, &ends);
	if (gained)
		count(set, &owner, METRIC_RETRANSMIT_SEGMENTS, detail, 0, gained, 0, &ends);
	return 0;
}

/* `req` is no full socket: it has addresses but no cgroup, so the listener gives the owner. */
HOOK(tcp_retransmit_synack, struct sock *sk, struct request_sock *req)
{
	struct fl_settings *set = settings_now();
	struct tcp_sock *tp = TCP(sk);
	struct fl_owner owner = {};
	struct ends ends = {};
	struct fl_socket *s;
	u32 pid;

	if (!set || !tp)
		return 0;
	s = SOCKET_GET(sockets, sk);
	pid = s ? s->pid : 0;
	owner_of(&owner, set, tp, ROLE_SERVER, pid);
	owner.family = family_of(&req->__req_common);
	ends_of(&ends, &req->__req_common, owner.family, FIELD(req, __req_common.skc_num), pid);
	if (wanted(set, ROLE_SERVER, ends.local_port, ends.remote_port))
		count(set, &owner, METRIC_SYNACK_RETRANSMIT, 0, 0, 1, 0, &ends);
	return 0;
}

#endif
