/* SPDX-License-Identifier: GPL-2.0-only */
/* Why a connect failed: the error that the socket has when it gives up, or had when it was reported. */
#ifndef FL_FAILURES_H
#define FL_FAILURES_H

enum { FAILED_REFUSED, FAILED_TIMEOUT, FAILED_UNREACHABLE, FAILED_RESET, FAILED_ABORTED, FAILED_OTHER };
enum { FL_ENETUNREACH = 101, FL_ECONNRESET = 104, FL_ETIMEDOUT = 110, FL_ECONNREFUSED = 111, FL_EHOSTUNREACH = 113 };

/* No error on the socket: either it was reported before, and reading it cleared it (since 6.9 an ICMP unreachable no longer ends
 * the attempt, commit 0a8de364ff7a, and the kernel does not count it as AttemptFails), or the application gave up
 * (tcp_disconnect() sets ECONNRESET only after this event); but a socket that never sent its SYN failed inside connect(), for
 * want of a free local port for example. */
static __always_inline u16 failure_of(struct sock *sk, struct tcp_sock *tp, struct fl_socket *s)
{
	int error = FIELD(sk, sk_err);

	if (!error && s)
		error = s->error;
	switch (error) {
	case 0:
		return FIELD(tp, segs_out) ? FAILED_ABORTED : FAILED_OTHER;
	case FL_ECONNREFUSED:
		return FAILED_REFUSED;
	case FL_ETIMEDOUT:
		return FAILED_TIMEOUT;
	case FL_EHOSTUNREACH:
	case FL_ENETUNREACH:
		return FAILED_UNREACHABLE;
	case FL_ECONNRESET:
		return FAILED_RESET;
	default:
		return FAILED_OTHER;
	}
}

/* Fires when an error is reported to the application, so not on the path of packets. */
HOOK(inet_sk_error_report, struct sock *sk)
{
	int error = FIELD(sk, sk_err);
	struct fl_socket *s;
	struct sk_buff *last;

	if (FIELD(sk, __sk_common.skc_state) != TCP_SYN_SENT || !TCP(sk))
		return 0;
	/* An ICMP message is put into the error queue and reported before the socket has its error. */
	if (!error && FIELD(sk, sk_error_queue.qlen)) {
		last = FIELD(sk, sk_error_queue.prev);
		error = PEEK((struct sock_exterr_skb *)last->cb, ee.ee_errno);
	}
	s = SOCKET_GET(sockets, sk);
	if (s && error)
		s->error = error;
	return 0;
}

#endif
