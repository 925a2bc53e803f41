/* SPDX-License-Identifier: GPL-2.0-only */
/* TCP resets, sent and received, also those that no socket sends: netns and addresses come from the packet then. */
#ifndef FL_RESETS_H
#define FL_RESETS_H

enum { INBOUND, OUTBOUND };

static __always_inline u16 reset_detail(u32 direction, u8 state, u32 reason)
{
	return direction << 12 | (state & 15) << 8 | (reason & 255);
}

/* skc_state is all that full, request and TIME_WAIT sockets share; only a full socket has a cgroup. */
static __always_inline int is_full(u8 state)
{
	return state && state != TCP_TIME_WAIT && state != TCP_NEW_SYN_RECV;
}

static __always_inline int reset_of_socket(struct fl_settings *set, struct sock *sk, u8 state, u32 direction, u32 reason)
{
	struct fl_socket *s = SOCKET_GET(sockets, sk);
	struct tcp_sock *tp = TCP(sk);
	struct fl_owner owner = {};
	struct ends ends = {};

	if (!tp)
		return 0;
	if (s && s->owner.netns)
		owner = s->owner;
	else
		owner_of(&owner, set, tp, ROLE_UNKNOWN, 0);
	ends_of(&ends, &sk->__sk_common, owner.family, local_port_of(sk, tp), s ? s->pid : 0);
	if (wanted(set, owner.role, ends.local_port, ends.remote_port))
		count(set, &owner, METRIC_RESET, reset_detail(direction, state, reason), 0, 1, 0, &ends);
	return 0;
}

/* A TIME_WAIT or request socket: netns and addresses, but no cgroup. */
static __always_inline int reset_of_mini_socket(struct fl_settings *set, struct sock *sk, u8 state, u32 reason)
{
	struct net *net = PEEK(sk, __sk_common.skc_net.net); /* quicker to verify than FIELD, see owner_of() */
	struct fl_owner owner = {};
	struct ends ends = {};

	owner.netns = PEEK(net, ns.inum);
	owner.family = family_of(&sk->__sk_common);
	owner.role = state == TCP_NEW_SYN_RECV ? ROLE_SERVER : ROLE_UNKNOWN;
	ends_of(&ends, &sk->__sk_common, owner.family, FIELD(sk, __sk_common.skc_num), 0);
	if (wanted(set, owner.role, ends.local_port, ends.remote_port))
		count(set, &owner, METRIC_RESET, reset_detail(OUTBOUND, state, reason), 0, 1, 0, &ends);
	return 0;
}

/* Our end is where the packet was going: headers are swapped. */
static __always_inline void ends_of_packet(struct ends *ends, struct sk_buff *skb, u8 family)
{
	unsigned char *head = FIELD(skb, head);
	void *network = head + FIELD(skb, network_header);
	struct tcphdr *tcp = (void *)(head + FIELD(skb, transport_header));

	ends->local_port = bpf_ntohs(PEEK(tcp, dest));
	ends->remote_port = bpf_ntohs(PEEK(tcp, source));
	if (family == 6) {
		bpf_probe_read_kernel(ends->local, 16, &((struct ipv6hdr *)network)->daddr);
		bpf_probe_read_kernel(ends->remote, 16, &((struct ipv6hdr *)network)->saddr);
	} else {
		*(u32 *)ends->local = PEEK((struct iphdr *)network, daddr);
		*(u32 *)ends->remote = PEEK((struct iphdr *)network, saddr);
	}
}

static __always_inline int reset_without_socket(struct fl_settings *set, struct sk_buff *skb, u32 reason)
{
	struct net_device *dev = PEEK(skb, dev); /* quicker to verify than FIELD, see owner_of() */
	struct net *net = PEEK(dev, nd_net.net);
	struct fl_owner owner = {};
	struct ends ends = {};

	owner.netns = PEEK(net, ns.inum);
	owner.family = bpf_ntohs(FIELD(skb, protocol)) == FL_ETH_P_IPV6 ? 6 : 4;
	ends_of_packet(&ends, skb, owner.family);
	if (wanted(set, ROLE_UNKNOWN, ends.local_port, ends.remote_port))
		count(set, &owner, METRIC_RESET, reset_detail(OUTBOUND, 0, reason), 0, 1, 0, &ends);
	return 0;
}

/* Since 6.10 there is a reason, and the event comes without a socket too (kernel commits 19822a980e19, c889aa99f3f9... see
 * docs/limits.md). Older verifiers take sk for never NULL and drop the test; the load of a NULL's state then gives 0. */
HOOK(tcp_send_reset, struct sock *sk, struct sk_buff *skb)
{
	struct fl_settings *set = settings_now();
	u32 reason = 0;
	u8 state = 0;

	if (!set || !enabled(set, METRIC_RESET))
		return 0;
	if (ENUM_EXISTS(sk_rst_reason, SK_RST_REASON_NOT_SPECIFIED))
		reason = ctx[2];
	if (sk)
		state = FIELD(sk, __sk_common.skc_state);
	if (sk && is_full(state))
		return reset_of_socket(set, sk, state, OUTBOUND, reason);
	if (sk && state)
		return reset_of_mini_socket(set, sk, state, reason);
	return skb ? reset_without_socket(set, skb, reason) : 0;
}

HOOK(tcp_receive_reset, struct sock *sk)
{
	struct fl_settings *set = settings_now();

	if (!set || !enabled(set, METRIC_RESET))
		return 0;
	return reset_of_socket(set, sk, FIELD(sk, __sk_common.skc_state), INBOUND, 0);
}

#endif
