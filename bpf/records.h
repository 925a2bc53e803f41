/* SPDX-License-Identifier: GPL-2.0-only */
/* What programs and user space share: fixed widths, explicit padding, no pointers. Python's twin is flowlens/kernel/layout.py;
 * a test compares both through the object's BTF. Numbers of metrics and details are those of flowlens/metrics.py. */
#ifndef FL_RECORDS_H
#define FL_RECORDS_H

enum fl_role { ROLE_UNKNOWN, ROLE_CLIENT, ROLE_SERVER };

enum fl_metric {
	METRIC_CONNECT,
	METRIC_ACCEPT,
	METRIC_CONNECT_FAILURES,
	METRIC_CONNECT_DURATION,
	METRIC_CONNECTIONS,
	METRIC_CONNECTION_DURATION,
	METRIC_RETRANSMIT,
	METRIC_RETRANSMIT_SEGMENTS,
	METRIC_SYNACK_RETRANSMIT,
	METRIC_RESET,
	METRICS = 32, /* room in the masks; a power of two, so that an index can be masked for the verifier */
};

#define DETAIL_OTHER 0xffff

/* Whose number it is. `pid` stays 0 unless a label asks for it, or nothing else tells containers apart (cgroup v1 only). */
struct fl_owner {
	u64 cgroup; /* id of the cgroup v2 directory (its inode); 0: no socket */
	u32 netns;  /* inode of the network namespace */
	u32 pid;
	u8 family; /* 4 or 6; v4-mapped is 4 */
	u8 role;
	u8 pad[6];
};

/* Key of `totals`. Its ports are 0 there; they are flow fields that fill a gap in `struct fl_flow`. */
struct fl_key {
	u64 cgroup;
	u32 netns;
	u32 pid;
	u32 generation; /* flows: of the settings; histograms in `totals`: of their boundaries; else 0 */
	u8 family;
	u8 role;
	u8 metric;
	u8 pad;
	u16 detail;
	u16 local_port; /* host order */
	u16 remote_port;
	u16 pad2;
};

/* Key of `flows`: every field that no label asks for is 0. IPv4 addresses fill the first four bytes. */
struct fl_flow {
	struct fl_key key;
	u8 local[16];
	u8 remote[16];
};

struct fl_value {
	u64 count;
	u64 sum; /* ns, histograms only */
};

enum fl_field { FIELD_SRC_IP = 1, FIELD_SRC_PORT = 2, FIELD_DST_IP = 4, FIELD_DST_PORT = 8, FIELD_PID = 16 };
enum fl_histogram { HISTOGRAM_CONNECT_DURATION, HISTOGRAM_CONNECTION_DURATION, HISTOGRAMS };

#define MAX_BOUNDS 32
#define PORT_WORDS 1024

#define NEVER_NS (1ULL << 62)

struct fl_bounds {
	u32 generation; /* settings generation in which these boundaries came into force */
	u32 count;
	u64 upper_ns[MAX_BOUNDS]; /* ascending; those not used are NEVER_NS */
};

enum fl_flag {
	FLAG_OWNER_PID = 1,	    /* no cgroup v2 here: the pid is part of the owner */
	FLAG_ADOPT_CONNECTIONS = 2, /* the file iterator takes connections too, not only listeners */
	FLAG_REBASE = 4,	    /* it also forgets retransmissions that nobody counted while the metric was off */
	FLAG_PORTS = 8,		    /* `ports` filters */
};

/* One of two copies in map `settings`; map `active` says which one holds. Never changed while it is active. */
struct fl_settings {
	u64 enabled; /* bit per metric */
	u32 generation;
	u32 flags;
	u32 max_flows;
	u32 pad;
	u32 keep_v4[4], keep_v6[4]; /* the bits of addresses that are kept, network order */
	u8 masks[METRICS];	    /* enum fl_field bits that the metric's labels need; 0: no row per flow */
	struct fl_bounds bounds[HISTOGRAMS];
	u64 ports[PORT_WORDS]; /* a bit per port that is wanted: no loop over ranges for the verifier to walk */
};

/* What `losses` counts: nothing is lost in silence. */
enum fl_loss {
	LOSS_TOTALS_FULL,
	LOSS_TOTALS_NO_MEMORY,
	LOSS_FLOWS_FULL,
	LOSS_FLOWS_NO_MEMORY,
	LOSS_SOCKETS_NO_MEMORY,
	LOSS_CGROUPS_FULL,
	LOSS_UNCOUNTED, /* not even the rows made in advance could take it: an error of ours */
	LOSSES,
};

#define MAX_CGROUP_PATH 4096

/* A cgroup that was just made; `path` is relative to the hierarchy's root, NUL-terminated, sent only as far as it goes. */
struct fl_cgroup {
	u64 id;
	char path[MAX_CGROUP_PATH];
};

/* One per socket, charged to the socket's owner: keep it under 100 bytes. An accepted socket starts with its listener's. */
struct fl_socket {
	struct fl_owner owner;
	u64 since_ns;	   /* SYN_SENT, then ESTABLISHED; 0: it was open before us */
	u32 pid;	   /* who connected or listens */
	u32 retransmitted; /* of tp->total_retrans, what has been counted */
	u8 listener;
	u8 open;	      /* enum fl_open */
	u8 uncounted_connect; /* counted when its source port is known */
	u8 told;	      /* state it went to that was counted last */
	u32 error;	      /* errno that was reported while it connected */
	SOCKET_LOCK;
};

/* Where somebody listened before us. */
struct fl_listener {
	u32 netns;
	u32 port;
};

enum fl_open { OPEN_NO, OPEN_COUNTED, OPEN_COUNTED_AS_OTHER };

#endif
