/* SPDX-License-Identifier: GPL-2.0-only */
/* For kernels whose sockets cannot carry storage: a table by the socket's address stands in for it. An entry is made with the
 * socket's first event and dropped when the kernel destroys the socket, so the table holds live sockets only and an address that
 * is used again starts afresh. Not an LRU: that would forget open connections in silence, a full table is counted. */
#ifndef FL_SOCKET_TABLE_H
#define FL_SOCKET_TABLE_H

enum { FL_PROTOCOL_TCP = 6, FL_STATE_TIME_WAIT = 6, FL_STATE_NEW_SYN_RECV = 12, FL_FAMILY_V6 = 10 };

/* Where somebody listens; the value is the listening socket's address. */
struct fl_port {
	u32 netns;
	u16 port;
	u16 family;
	u8 address[16];
};

HASH_MAP(listening, struct fl_port, u64, 16384);

/* What bpf_skc_to_tcp_sock() does: NULL for TIME_WAIT and request sockets, and for other protocols. */
static __always_inline struct tcp_sock *tcp_of(struct sock *sk)
{
	u8 state = PEEK(sk, __sk_common.skc_state);

	if (state == FL_STATE_TIME_WAIT || state == FL_STATE_NEW_SYN_RECV || PEEK(sk, sk_protocol) != FL_PROTOCOL_TCP)
		return 0;
	return (struct tcp_sock *)sk;
}

static __always_inline struct fl_socket *socket_get(void *table, struct sock *sk)
{
	u64 key = (u64)sk;

	return bpf_map_lookup_elem(table, &key);
}

static __always_inline struct fl_socket *socket_new(void *table, struct sock *sk)
{
	struct fl_socket zero = {}, *s;
	u64 key = (u64)sk;

	s = bpf_map_lookup_elem(table, &key);
	if (s)
		return s;
	bpf_map_update_elem(table, &key, &zero, BPF_NOEXIST);
	return bpf_map_lookup_elem(table, &key);
}

/* inet_sport keeps the port when skc_num is gone, which is so when a listener is destroyed. */
static __always_inline void port_of(struct fl_port *port, struct sock *sk)
{
	struct net *net = PEEK(sk, __sk_common.skc_net.net);

	port->netns = PEEK(net, ns.inum);
	port->port = bpf_ntohs(PEEK((struct tcp_sock *)sk, inet_conn.icsk_inet.inet_sport));
	port->family = PEEK(sk, __sk_common.skc_family);
	if (EXISTS(sock_common, skc_v6_rcv_saddr) && port->family == FL_FAMILY_V6)
		bpf_probe_read_kernel(port->address, 16, &sk->__sk_common.skc_v6_rcv_saddr);
	else
		*(u32 *)port->address = PEEK(sk, __sk_common.skc_rcv_saddr);
}

static __always_inline void socket_listens(struct sock *sk)
{
	struct fl_port port = {};
	u64 value = (u64)sk;

	port_of(&port, sk);
	bpf_map_update_elem(MAP(listening), &port, &value, BPF_ANY);
}

/* The socket that listens on this one's address, else on any address. Of several with SO_REUSEPORT, the latest. */
static __always_inline struct fl_socket *listener_of(void *table, struct sock *sk)
{
	struct fl_port port = {};
	u64 *listener;

	port_of(&port, sk);
	listener = bpf_map_lookup_elem(MAP(listening), &port);
	if (!listener) {
		__builtin_memset(port.address, 0, sizeof(port.address));
		listener = bpf_map_lookup_elem(MAP(listening), &port);
	}
	return listener ? bpf_map_lookup_elem(table, listener) : 0;
}

static __always_inline struct fl_socket *socket_accepted(void *table, struct sock *sk)
{
	struct fl_socket *s = socket_get(table, sk), *listener;
	u64 key = (u64)sk;

	if (s)
		return s;
	listener = listener_of(table, sk);
	if (!listener)
		return socket_new(table, sk);
	bpf_map_update_elem(table, &key, listener, BPF_NOEXIST);
	return bpf_map_lookup_elem(table, &key);
}

static __always_inline void socket_drop(void *table, struct sock *sk)
{
	struct fl_port port = {};
	u64 key = (u64)sk, *listener;
	struct fl_socket *s = bpf_map_lookup_elem(table, &key);

	if (!s)
		return;
	if (s->listener) {
		port_of(&port, sk);
		listener = bpf_map_lookup_elem(MAP(listening), &port);
		if (listener && *listener == key)
			bpf_map_delete_elem(MAP(listening), &port);
	}
	bpf_map_delete_elem(table, &key);
}

#define SOCKET_MAP(m, V) MAP_SHAPE(m, BPF_MAP_TYPE_HASH, 8, sizeof(V), 131072, BPF_F_NO_PREALLOC)
#define TCP(sk) tcp_of((struct sock *)(sk))
#define SOCKET_GET(m, sk) socket_get(MAP(m), (struct sock *)(sk))
#define SOCKET_NEW(m, sk) socket_new(MAP(m), (struct sock *)(sk))
#define SOCKET_ACCEPTED(m, sk) socket_accepted(MAP(m), (struct sock *)(sk))
#define SOCKET_LISTENS(m, sk) socket_listens((struct sock *)(sk))
#define SOCKET_DROP(m, sk) socket_drop(MAP(m), (struct sock *)(sk))
/* No iterator looks at sockets here, and the kernel holds the socket's lock in every hook. */
#define LOCK(s) ((void)0)
#define UNLOCK(s) ((void)0)
#define SOCKET_STORAGE 0

#endif
