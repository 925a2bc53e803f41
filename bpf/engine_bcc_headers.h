/* SPDX-License-Identifier: GPL-2.0-only */
/* Engine `bcc` on a kernel without BTF: its own headers say where fields are, and kern.h is not used. */
#ifndef FL_ENGINE_BCC_HEADERS_H
#define FL_ENGINE_BCC_HEADERS_H

#include <linux/cgroup-defs.h>
#include <linux/errqueue.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/kernfs.h>
#include <linux/netdevice.h>
#include <linux/skbuff.h>
#include <linux/tcp.h>
#include <net/net_namespace.h>
#include <net/request_sock.h>
#include <net/sock.h>
#include <net/tcp.h>

/* The programs name the TCP states themselves, for where there are no headers to do so. */
#define TCP_ESTABLISHED FL_TCP_ESTABLISHED
#define TCP_SYN_SENT FL_TCP_SYN_SENT
#define TCP_SYN_RECV FL_TCP_SYN_RECV
#define TCP_FIN_WAIT1 FL_TCP_FIN_WAIT1
#define TCP_FIN_WAIT2 FL_TCP_FIN_WAIT2
#define TCP_TIME_WAIT FL_TCP_TIME_WAIT
#define TCP_CLOSE FL_TCP_CLOSE
#define TCP_CLOSE_WAIT FL_TCP_CLOSE_WAIT
#define TCP_LAST_ACK FL_TCP_LAST_ACK
#define TCP_LISTEN FL_TCP_LISTEN
#define TCP_CLOSING FL_TCP_CLOSING
#define TCP_NEW_SYN_RECV FL_TCP_NEW_SYN_RECV

/* What not every kernel has. A name that is missing must still compile in the dead branch, so it gets one that is there. */
#define EXISTS(type, f) HAS_##type##_##f
#define ENUM_EXISTS(e, v) HAS_##e##_##v
#define HAS_sock_common_skc_v6_daddr IS_ENABLED(CONFIG_IPV6)
#define HAS_sock_common_skc_v6_rcv_saddr IS_ENABLED(CONFIG_IPV6)
#if !IS_ENABLED(CONFIG_IPV6)
#define skc_v6_daddr skc_daddr
#define skc_v6_rcv_saddr skc_rcv_saddr
#endif
#if __has_include(<net/rstreason.h>) && LINUX_VERSION_CODE >= KERNEL_VERSION(6, 10, 0)
#define HAS_sk_rst_reason_SK_RST_REASON_NOT_SPECIFIED 1
#else
#define HAS_sk_rst_reason_SK_RST_REASON_NOT_SPECIFIED 0
#endif
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 19, 0)
#define HAS_inet_connection_sock_icsk_retransmit_timer 1
#else
#define HAS_inet_connection_sock_icsk_retransmit_timer 0
#define icsk_retransmit_timer icsk_delack_timer
#endif

/* A bit field has no address. The bytes around a neighbour that has one are read, and the compiler takes the field out of them;
 * were it further away than that, the verifier would refuse the program. */
#define NEAR_icsk_ca_state icsk_retransmits
#define BITS(type, p, f)                                                                    \
	({                                                                                  \
		u8 around_[32];                                                             \
		u64 from_ = __builtin_offsetof(struct type, NEAR_##f) - 16;                 \
		bpf_probe_read_kernel(around_, sizeof(around_), (const void *)(p) + from_); \
		((struct type *)((u64)around_ - from_))->f;                                 \
	})

#endif
