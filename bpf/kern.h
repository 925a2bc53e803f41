/* SPDX-License-Identifier: GPL-2.0-only */
/* The kernel's types, only the fields we read. Order and offsets here mean nothing: each engine supplies the true ones
 * (core: relocations at load time; bcc with BTF: a generated twin of this file; bcc without BTF: the kernel's own headers).
 * One field a line, plain declarations only: the generator reads this file. */
#ifndef FL_KERN_H
#define FL_KERN_H

struct in6_addr {
	u8 fl_bytes[16];
} KERN;
struct ns_common {
	unsigned int inum;
} KERN;
struct net {
	struct ns_common ns;
} KERN;
typedef struct {
	struct net *net;
} possible_net_t;
struct kernfs_node {
	u64 id;
} KERN;
struct cgroup_root {
	int hierarchy_id;
} KERN;
struct cgroup {
	struct cgroup_root *root;
	struct kernfs_node *kn;
} KERN;
struct sock_cgroup_data {
	struct cgroup *cgroup;
} KERN;
struct sock_common {
	u32 skc_daddr;
	u32 skc_rcv_saddr;
	u16 skc_dport;
	u16 skc_num;
	unsigned short skc_family;
	unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
	struct sock *skc_listener;
} KERN;
struct sk_buff_head {
	struct sk_buff *prev;
	u32 qlen;
} KERN;
struct sock {
	struct sock_common __sk_common;
	int sk_err;
	u16 sk_protocol;
	struct sk_buff_head sk_error_queue;
	struct sock_cgroup_data sk_cgrp_data;
} KERN;
struct request_sock {
	struct sock_common __req_common;
} KERN;
struct inet_sock {
	u16 inet_sport;
} KERN;
struct hlist_node {
	struct hlist_node **pprev;
} KERN;
struct timer_list {
	struct hlist_node entry;
} KERN;
struct inet_connection_sock {
	struct inet_sock icsk_inet;
	struct timer_list icsk_retransmit_timer;
	u8 icsk_ca_state : 5;
	u8 icsk_pending;
} KERN;
struct tcp_sock {
	struct inet_connection_sock inet_conn;
	u32 segs_out;
	u32 total_retrans;
} KERN;
struct net_device {
	possible_net_t nd_net;
} KERN;
struct sk_buff {
	struct net_device *dev;
	char cb[48];
	u16 protocol;
	u16 transport_header;
	u16 network_header;
	unsigned char *head;
} KERN;
struct tcp_skb_cb {
	u16 tcp_gso_segs;
} KERN;
struct sock_extended_err {
	u32 ee_errno;
} KERN;
struct sock_exterr_skb {
	struct sock_extended_err ee;
} KERN;
struct iphdr {
	u32 saddr;
	u32 daddr;
} KERN;
struct ipv6hdr {
	struct in6_addr saddr;
	struct in6_addr daddr;
} KERN;
struct tcphdr {
	u16 source;
	u16 dest;
} KERN;
struct file {
	void *private_data;
} KERN;
struct socket {
	struct sock *sk;
} KERN;
struct task_struct {
	int tgid;
} KERN;
struct bpf_iter_meta {
	struct seq_file *seq;
} KERN;
struct bpf_iter__bpf_sk_storage_map {
	struct bpf_iter_meta *meta;
	struct sock *sk;
} KERN;
struct bpf_iter__task_file {
	struct task_struct *task;
	struct file *file;
} KERN;
enum sk_rst_reason {
	SK_RST_REASON_NOT_SPECIFIED,
};

#endif
