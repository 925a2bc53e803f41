/* SPDX-License-Identifier: GPL-2.0-only */
/* Engine `core`: clang at build time, one object for all kernels with BTF (>= 5.11), loaded by libbpf.
 * The macros below are all that a program file may use; each engine gives them one meaning. */
#ifndef FL_ENGINE_CORE_H
#define FL_ENGINE_CORE_H

#include <linux/bpf.h>
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_tracing.h>

#define KERN __attribute__((preserve_access_index))
#define SOCKET_LOCK struct bpf_spin_lock lock
#include "kern.h"
#include "records.h"

/* HOOK(tp, args): a program on a kernel tracepoint, arguments as in the kernel's own prototype. `ctx` holds them raw. */
#define HOOK(tp, args...) SEC("tp_btf/" #tp) int BPF_PROG(hook_##tp, args)
/* AGAIN(tp, args): a second program on the same tracepoint. */
#define AGAIN(tp, args...) SEC("tp_btf/" #tp) int BPF_PROG(again_##tp, args)
/* SWEEP(name): a program run once per live tracked socket whenever user space reads the iterator. */
#define SWEEP(name) SEC("iter/bpf_sk_storage_map") int sweep_##name(struct bpf_iter__bpf_sk_storage_map *ctx)
/* FILES(name): a program run once per open file of every task whenever user space reads the iterator. */
#define FILES(name) SEC("iter/task_file") int files_##name(struct bpf_iter__task_file *ctx)
/* FIELD(p, f): p->f where p came from a hook's argument or from another FIELD. Here a plain load, the verifier checks it. */
#define FIELD(p, f) ((p)->f)
/* PEEK(p, f): the same where p was made by a cast; the verifier cannot follow those. Never inside LOCK/UNLOCK. */
#define PEEK(p, f) BPF_CORE_READ(p, f)
/* BITS(type, p, f): a bit field p->f of a struct type, p as for FIELD. */
#define BITS(type, p, f) BPF_CORE_READ_BITFIELD(p, f)
/* EXISTS(type, f): does this kernel have the field? ENUM_EXISTS(e, v): the enum value? Constants; dead branches are dropped. */
#define EXISTS(type, f) bpf_core_field_exists(((struct type *)0)->f)
#define ENUM_EXISTS(e, v) bpf_core_enum_value_exists(enum e, v)
/* TCP(sk): the socket as a struct tcp_sock, or NULL. */
#define TCP(sk) ((struct tcp_sock *)bpf_skc_to_tcp_sock((struct sock *)(sk)))
/* CGROUP_ID(sk): id of the cgroup v2 directory that a full socket belongs to. Before 5.15 the pointer shares its word with a class
 * id of net_cls, which two low bits tell, and NULL means the root (kernel commit 8520e224f547). */
static __always_inline u64 cgroup_id(struct sock *sk)
{
	struct cgroup *cgroup;
	struct kernfs_node *kn;
	u64 bits = 0;

	if (EXISTS(sock_cgroup_data, cgroup)) {
		cgroup = FIELD(sk, sk_cgrp_data.cgroup);
		kn = FIELD(cgroup, kn);
		return FIELD(kn, id);
	}
	bpf_probe_read_kernel(&bits, sizeof(bits), &sk->sk_cgrp_data);
	if (!bits || bits & 3)
		return 1; /* inode of the root directory */
	kn = PEEK((struct cgroup *)bits, kn);
	return PEEK(kn, id);
}
#define CGROUP_ID(sk) cgroup_id(sk)
/* MAP(m): the map as the ordinary bpf_map_*_elem() helpers want it. */
#define MAP(m) ((void *)&(m))
#define HASH_MAP(m, K, V, n)                          \
	struct {                                      \
		__uint(type, BPF_MAP_TYPE_HASH);      \
		__uint(map_flags, BPF_F_NO_PREALLOC); \
		__uint(max_entries, n);               \
		__type(key, K);                       \
		__type(value, V);                     \
	} m SEC(".maps")
#define ARRAY_MAP(m, V, n)                        \
	struct {                                  \
		__uint(type, BPF_MAP_TYPE_ARRAY); \
		__uint(max_entries, n);           \
		__type(key, u32);                 \
		__type(value, V);                 \
	} m SEC(".maps")
#define PERCPU_MAP(m, V)                                 \
	struct {                                         \
		__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY); \
		__uint(max_entries, 1);                  \
		__type(key, u32);                        \
		__type(value, V);                        \
	} m SEC(".maps")
#define RING_MAP(m, bytes)                          \
	struct {                                    \
		__uint(type, BPF_MAP_TYPE_RINGBUF); \
		__uint(max_entries, bytes);         \
	} m SEC(".maps")
/* SOCKET_MAP(m, V): one V per socket, freed with it; an accepted socket starts with a copy of its listener's (BPF_F_CLONE). */
#define SOCKET_MAP(m, V)                                            \
	struct {                                                    \
		__uint(type, BPF_MAP_TYPE_SK_STORAGE);              \
		__uint(map_flags, BPF_F_NO_PREALLOC | BPF_F_CLONE); \
		__type(key, int);                                   \
		__type(value, V);                                   \
	} m SEC(".maps")
/* SOCKET_GET: this socket's V or NULL. SOCKET_NEW: makes it if absent; may still be NULL (no memory): count anyway. */
#define SOCKET_GET(m, sk) ((struct fl_socket *)bpf_sk_storage_get(&(m), (struct sock *)(sk), 0, 0))
#define SOCKET_NEW(m, sk) ((struct fl_socket *)bpf_sk_storage_get(&(m), (struct sock *)(sk), 0, BPF_SK_STORAGE_GET_F_CREATE))
/* SOCKET_ACCEPTED: as SOCKET_NEW for a socket that was just accepted, which starts as a copy of its listener's. SOCKET_LISTENS:
 * this socket's V is filled and it listens; for engines whose sockets do not inherit by themselves. */
#define SOCKET_ACCEPTED(m, sk) SOCKET_NEW(m, sk)
#define SOCKET_LISTENS(m, sk) ((void)0)
/* LOCK(s) ... UNLOCK(s): hooks hold the socket's lock, iterators do not; without this both count the same thing. */
#define LOCK(s) bpf_spin_lock(&(s)->lock)
#define UNLOCK(s) bpf_spin_unlock(&(s)->lock)
/* 1 where sockets have storage of their own, so that iterators can reach them. */
#define SOCKET_STORAGE 1

#endif
