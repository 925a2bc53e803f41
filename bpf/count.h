/* SPDX-License-Identifier: GPL-2.0-only */
/* Where a number goes: settings in force, owner and flow of a socket, and the one function that adds. */
#ifndef FL_COUNT_H
#define FL_COUNT_H

enum { TCP_ESTABLISHED = 1, TCP_SYN_SENT, TCP_SYN_RECV, TCP_FIN_WAIT1, TCP_FIN_WAIT2, TCP_TIME_WAIT, TCP_CLOSE };
enum { TCP_CLOSE_WAIT = 8, TCP_LAST_ACK, TCP_LISTEN, TCP_CLOSING, TCP_NEW_SYN_RECV };
enum { FL_AF_INET = 2, FL_AF_INET6 = 10, FL_ETH_P_IPV6 = 0x86dd };
enum { FL_IPPROTO_TCP = 6, FL_IPPROTO_MPTCP = 262 };
enum { FL_E2BIG = 7, FL_EEXIST = 17 };

HASH_MAP(totals, struct fl_key, struct fl_value, 131072);
HASH_MAP(flows, struct fl_flow, struct fl_value, 131072);
SOCKET_MAP(sockets, struct fl_socket);
ARRAY_MAP(settings, struct fl_settings, 2);
ARRAY_MAP(active, u32, 1);
ARRAY_MAP(flows_used, u64, 2); /* rows of `flows` of an even and of an odd generation */
ARRAY_MAP(losses, u64, LOSSES);
HASH_MAP(listeners, struct fl_listener, u32, 16384); /* pid; filled while sockets that were there before us are adopted */

static __always_inline struct fl_settings *settings_now(void)
{
	u32 zero = 0, *which = bpf_map_lookup_elem(MAP(active), &zero);

	return which ? bpf_map_lookup_elem(MAP(settings), which) : 0;
}

static __always_inline void lost(u32 what)
{
	u64 *n = bpf_map_lookup_elem(MAP(losses), &what);

	if (n)
		__sync_fetch_and_add(n, 1);
}

static __always_inline int is_v4_mapped(const u8 *address)
{
	const u32 *word = (const u32 *)address;

	return !word[0] && !word[1] && word[2] == bpf_htonl(0xffff);
}

/* 4 or 6: what goes over the wire, so an IPv6 socket that talks to ::ffff:192.0.2.1 is 4. */
static __always_inline u8 family_of(struct sock_common *common)
{
	struct in6_addr peer;

	if (!EXISTS(sock_common, skc_v6_daddr) || FIELD(common, skc_family) != FL_AF_INET6)
		return 4;
	bpf_probe_read_kernel(&peer, sizeof(peer), &common->skc_v6_daddr);
	return is_v4_mapped((u8 *)&peer) ? 4 : 6;
}

/* Owner of a full TCP socket: the cgroup stored in it when it was made; an accepted socket has its listener's. It takes what TCP()
 * returned and not a hook's argument: for each pointer loaded from the latter the verifier (since 6.2) walks the kernel's BTF from
 * end to end four times, 2 ms, to learn whether to trust it (btf_nested_type_is_trusted()). */
static __always_inline void owner_of(struct fl_owner *owner, struct fl_settings *set, struct tcp_sock *tp, u8 role, u32 pid)
{
	struct sock *sk = (struct sock *)tp;
	struct net *net = FIELD(sk, __sk_common.skc_net.net);

	owner->cgroup = CGROUP_ID(sk);
	owner->netns = FIELD(net, ns.inum);
	owner->family = family_of(&sk->__sk_common);
	owner->role = role;
	owner->pid = set->flags & FLAG_OWNER_PID ? pid : 0;
}

/* Do the port filters want it? The port meant is the server's end; where the role is unknown, the lower one. */
static __always_inline int wanted(struct fl_settings *set, u8 role, u16 local, u16 remote)
{
	u32 port = remote;

	if (!(set->flags & FLAG_PORTS))
		return 1;
	if (role == ROLE_SERVER || (role == ROLE_UNKNOWN && local < remote))
		port = local;
	return (set->ports[(port >> 6) & (PORT_WORDS - 1)] >> (port & 63)) & 1;
}

static __always_inline void keep(u8 *address, const u32 *bits)
{
	u32 *word = (u32 *)address;

	word[0] &= bits[0];
	word[1] &= bits[1];
	word[2] &= bits[2];
	word[3] &= bits[3];
}

static __always_inline void find_end(struct fl_listener *end, struct sock *sk)
{
	struct net *net = PEEK(sk, __sk_common.skc_net.net); /* quicker to verify than FIELD, see owner_of() */

	end->netns = PEEK(net, ns.inum);
	end->port = FIELD(sk, __sk_common.skc_num);
}

/* Both ends of a connection, as far as labels may ask for them. */
struct ends {
	u8 local[16];
	u8 remote[16];
	u16 local_port, remote_port;
	u32 pid;
};

static __always_inline void ends_of(struct ends *ends, struct sock_common *common, u8 family, u16 local_port, u32 pid)
{
	ends->local_port = local_port;
	ends->remote_port = bpf_ntohs(FIELD(common, skc_dport));
	ends->pid = pid;
	if (EXISTS(sock_common, skc_v6_daddr) && family == 6) {
		bpf_probe_read_kernel(ends->local, 16, &common->skc_v6_rcv_saddr);
		bpf_probe_read_kernel(ends->remote, 16, &common->skc_v6_daddr);
	} else {
		*(u32 *)ends->local = FIELD(common, skc_rcv_saddr);
		*(u32 *)ends->remote = FIELD(common, skc_daddr);
	}
}

/* Puts into the key only what the mask asks for: this is how labels that nobody wants cost no row. */
static __always_inline void mask_ends(struct fl_flow *flow, struct fl_settings *set, const struct ends *ends, u8 mask)
{
	const u32 *bits = flow->key.family == 6 ? set->keep_v6 : set->keep_v4;

	if (mask & FIELD_SRC_IP) {
		__builtin_memcpy(flow->local, ends->local, 16);
		keep(flow->local, bits);
	}
	if (mask & FIELD_DST_IP) {
		__builtin_memcpy(flow->remote, ends->remote, 16);
		keep(flow->remote, bits);
	}
	if (mask & FIELD_SRC_PORT)
		flow->key.local_port = ends->local_port;
	if (mask & FIELD_DST_PORT)
		flow->key.remote_port = ends->remote_port;
	if (mask & FIELD_PID)
		flow->key.pid = ends->pid;
}

static __always_inline int add(struct fl_value *value, u64 n, u64 sum)
{
	if (!value)
		return 0;
	__sync_fetch_and_add(&value->count, n);
	if (sum)
		__sync_fetch_and_add(&value->sum, sum);
	return 1;
}

/* Adds to the flow's row if there is one or room for one. */
static __always_inline int add_flow(struct fl_settings *set, struct fl_flow *flow, u64 n, u64 sum)
{
	struct fl_value zero = {}, *value = bpf_map_lookup_elem(MAP(flows), flow);
	u32 parity = set->generation & 1;
	long error;
	u64 *used;

	if (value)
		return add(value, n, sum);
	used = bpf_map_lookup_elem(MAP(flows_used), &parity);
	if (!used)
		return 0;
	if (*used >= set->max_flows) {
		lost(LOSS_FLOWS_FULL);
		return 0;
	}
	error = bpf_map_update_elem(MAP(flows), flow, &zero, BPF_NOEXIST);
	if (!error)
		__sync_fetch_and_add(used, 1);
	else if (error != -FL_EEXIST)
		lost(error == -FL_E2BIG ? LOSS_FLOWS_FULL : LOSS_FLOWS_NO_MEMORY);
	return add(bpf_map_lookup_elem(MAP(flows), flow), n, sum);
}

/* Adds to the row that was made in advance for all owners whose own row has no room. */
static __always_inline int add_other(struct fl_key *key, u64 n, u64 sum)
{
	key->cgroup = 0;
	key->netns = 0;
	key->pid = 0;
	if (add(bpf_map_lookup_elem(MAP(totals), key), n, sum))
		return OPEN_COUNTED_AS_OTHER;
	key->detail = DETAIL_OTHER;
	if (add(bpf_map_lookup_elem(MAP(totals), key), n, sum))
		return OPEN_COUNTED_AS_OTHER;
	lost(LOSS_UNCOUNTED);
	return OPEN_NO;
}

static __always_inline int add_total(struct fl_key *key, u64 n, u64 sum)
{
	struct fl_value zero = {};
	long error;

	if (add(bpf_map_lookup_elem(MAP(totals), key), n, sum))
		return OPEN_COUNTED;
	error = bpf_map_update_elem(MAP(totals), key, &zero, BPF_NOEXIST);
	if (add(bpf_map_lookup_elem(MAP(totals), key), n, sum))
		return OPEN_COUNTED;
	lost(error == -FL_E2BIG ? LOSS_TOTALS_FULL : LOSS_TOTALS_NO_MEMORY);
	return add_other(key, n, sum);
}

static __always_inline int enabled(struct fl_settings *set, u8 metric)
{
	return (set->enabled >> metric) & 1;
}

/* Adds n to one metric of one owner: to the flow's row where labels ask for flows and there is room, else to the owner's.
 * Never to both, so a metric's rows always sum up to its events. Returns enum fl_open. */
static __always_inline int count(struct fl_settings *set, const struct fl_owner *owner, u8 metric, u16 detail, u32 generation,
				 u64 n, u64 sum, const struct ends *ends)
{
	struct fl_flow flow = {};
	u8 mask;

	if (!enabled(set, metric))
		return OPEN_NO;
	flow.key.cgroup = owner->cgroup;
	flow.key.netns = owner->netns;
	flow.key.pid = owner->pid;
	flow.key.family = owner->family;
	flow.key.role = owner->role;
	flow.key.metric = metric;
	flow.key.detail = detail;
	mask = set->masks[metric & (METRICS - 1)];
	if (mask && ends) {
		flow.key.generation = set->generation;
		mask_ends(&flow, set, ends, mask);
		if (add_flow(set, &flow, n, sum))
			return OPEN_COUNTED;
		flow.key.pid = owner->pid;
		flow.key.local_port = 0;
		flow.key.remote_port = 0;
	}
	flow.key.generation = generation;
	return add_total(&flow.key, n, sum);
}

static __always_inline u32 is_below(const struct fl_bounds *bounds, u32 i, u64 ns)
{
	asm volatile("" : "+r"(i)); /* or the compiler, which knows better, drops the mask; the verifier of 5.10 needs it */
	return (bounds->upper_ns[i & (MAX_BOUNDS - 1)] - ns) >> 63;
}

/* Index of the first boundary that is not below ns; count of boundaries if none. Without branches: the verifier would walk each
 * of their paths. */
static __always_inline u32 bucket_of(const struct fl_bounds *bounds, u64 ns)
{
	u32 i = is_below(bounds, 15, ns) << 4;

	i += is_below(bounds, i + 7, ns) << 3;
	i += is_below(bounds, i + 3, ns) << 2;
	i += is_below(bounds, i + 1, ns) << 1;
	i += is_below(bounds, i, ns);
	return i + is_below(bounds, i, ns);
}

static __always_inline void observe(struct fl_settings *set, const struct fl_owner *owner, u8 metric, u32 histogram, u64 ns,
				    const struct ends *ends)
{
	const struct fl_bounds *bounds = &set->bounds[histogram];

	count(set, owner, metric, bucket_of(bounds, ns), bounds->generation, 1, ns, ends);
}

#endif
