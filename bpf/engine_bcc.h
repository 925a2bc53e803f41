/* SPDX-License-Identifier: GPL-2.0-only */
/* Engine `bcc`: the same sources compiled on the node, by bcc in a child process without privileges. bcc is a compiler here and
 * nothing else: user space reads the maps' shapes out of the result, makes them, writes their descriptors into the instructions
 * and loads those itself. None of bcc's own map or probe syntax is used, so bcc rewrites nothing. Three ways, chosen in Python:
 *   -DTYPED         kernel has BTF, 5.11 or newer: loaded as tp_btf and iterators, everything that `core` can do
 *   (neither)       kernel has BTF but is older: raw tracepoints, a table in place of socket storage
 *   -DWITH_HEADERS  no BTF: the same, types from the kernel's own headers
 * What each macro means is said in engine_core.h; here is only how. */
#ifndef FL_ENGINE_BCC_H
#define FL_ENGINE_BCC_H

#ifdef WITH_HEADERS
#include "engine_bcc_headers.h"
#else
#include "kern_padded.h" /* kern.h again, each field at its true offset in the running kernel; written by generator.py */
#define EXISTS(type, f) HAS_##type##_##f
#define ENUM_EXISTS(e, v) HAS_##e##_##v
/* BYTE, SHIFT and MASK: byte, first bit and mask of a bit field, from the generator. */
#define BITS(type, p, f) \
	((FIELD((struct fl_bits *)((u8 *)(p) + BYTE_##type##_##f), word) >> SHIFT_##type##_##f) & MASK_##type##_##f)
struct fl_bits {
	u8 word;
};
#endif

#ifdef TYPED
#define SOCKET_LOCK struct bpf_spin_lock lock
#define LOCK_OFFSET(V) __builtin_offsetof(V, lock)
#else
#define SOCKET_LOCK u32 no_lock
#endif
#include "records.h"

#define PROGRAM(name, args...)                                                 \
	static __always_inline int do_##name(unsigned long long *ctx, ##args); \
	int name(unsigned long long *ctx)                                      \
	{                                                                      \
		return do_##name(___bpf_ctx_cast(args));                       \
	}                                                                      \
	static __always_inline int do_##name(unsigned long long *ctx, ##args)
#define HOOK(tp, args...) PROGRAM(hook_##tp, args)
#define AGAIN(tp, args...) PROGRAM(again_##tp, args)
#define SWEEP(name) int sweep_##name(struct bpf_iter__bpf_sk_storage_map *ctx)
#define FILES(name) int files_##name(struct bpf_iter__task_file *ctx)
#define PEEK(p, f)                                                                               \
	({                                                                                       \
		typeof((p)->f) peeked_;                                                          \
		bpf_probe_read_kernel((void *)&peeked_, sizeof(peeked_), (const void *)&(p)->f); \
		peeked_;                                                                         \
	})

/* Before 5.15 the pointer shares its word with a class id of net_cls, two low bits tell, and NULL means the root (kernel commit
 * 8520e224f547). The word comes first in either layout, so reading it as a number is right for all. */
struct fl_word {
	u64 bits;
};
static __always_inline u64 tagged_cgroup_id(struct sock *sk)
{
	u64 bits = PEEK((struct fl_word *)&sk->sk_cgrp_data, bits);
	struct kernfs_node *kn;

	if (!bits || bits & 3)
		return 1; /* inode of the root directory */
	kn = PEEK((struct cgroup *)bits, kn);
	return PEEK(kn, id);
}

/* A map is a number that stands in for its descriptor until the loader writes the true one, and its shape: a function that is
 * never loaded, whose constants the loader reads off (enum bpf_map_type, sizes, entries, then flags or the lock's place). */
#define MAP(m) ((void *)bpf_pseudo_fd(1, PLACE_##m))
#define MAP_SHAPE(m, type, key_bytes, value_bytes, entries, extra)                                   \
	enum { PLACE_##m = 0x464c0000 + __COUNTER__ };                                               \
	int map_##m(void *ctx)                                                                       \
	{                                                                                            \
		((int (*)(u64, u64, u64, u64, u64))1)(type, key_bytes, value_bytes, entries, extra); \
		return PLACE_##m;                                                                    \
	}
#define HASH_MAP(m, K, V, n) MAP_SHAPE(m, BPF_MAP_TYPE_HASH, sizeof(K), sizeof(V), n, BPF_F_NO_PREALLOC)
#define ARRAY_MAP(m, V, n) MAP_SHAPE(m, BPF_MAP_TYPE_ARRAY, 4, sizeof(V), n, 0)
#define PERCPU_MAP(m, V) MAP_SHAPE(m, BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(V), 1, 0)
#define RING_MAP(m, bytes) MAP_SHAPE(m, BPF_MAP_TYPE_RINGBUF, 0, 0, bytes, 0)

#ifdef TYPED
#define FIELD(p, f) ((p)->f)
#define TCP(sk) ((struct tcp_sock *)bpf_skc_to_tcp_sock((struct sock *)(sk)))
static __always_inline u64 cgroup_id(struct sock *sk)
{
	if (!EXISTS(sock_cgroup_data, cgroup))
		return tagged_cgroup_id(sk);
	return FIELD(FIELD(FIELD(sk, sk_cgrp_data.cgroup), kn), id);
}
#define CGROUP_ID(sk) cgroup_id(sk)
#define SOCKET_MAP(m, V) MAP_SHAPE(m, BPF_MAP_TYPE_SK_STORAGE, 4, sizeof(V), 0, LOCK_OFFSET(V))
#define SOCKET_GET(m, sk) ((struct fl_socket *)bpf_sk_storage_get(MAP(m), (struct sock *)(sk), 0, 0))
#define SOCKET_NEW(m, sk) ((struct fl_socket *)bpf_sk_storage_get(MAP(m), (struct sock *)(sk), 0, BPF_SK_STORAGE_GET_F_CREATE))
#define SOCKET_ACCEPTED(m, sk) SOCKET_NEW(m, sk)
#define SOCKET_LISTENS(m, sk) ((void)0)
#define LOCK(s) bpf_spin_lock(&(s)->lock)
#define UNLOCK(s) bpf_spin_unlock(&(s)->lock)
#define SOCKET_STORAGE 1
#else
#define FIELD(p, f) PEEK(p, f)
#define CGROUP_ID(sk) tagged_cgroup_id(sk)
#include "socket_table.h"
#endif

#endif
