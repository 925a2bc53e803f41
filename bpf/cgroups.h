/* SPDX-License-Identifier: GPL-2.0-only */
/* Tells user space the id and path of each cgroup when it is made, so that a container that lives 50 ms has its name.
 * A rare event, so it may be streamed; nothing that happens per connection is. */
#ifndef FL_CGROUPS_H
#define FL_CGROUPS_H

RING_MAP(cgroups, 1 << 19);
PERCPU_MAP(cgroup_scratch, struct fl_cgroup);

HOOK(cgroup_mkdir, struct cgroup *cgrp, const char *path)
{
	struct cgroup_root *root = FIELD(cgrp, root);
	struct kernfs_node *kn = FIELD(cgrp, kn);
	struct fl_cgroup *record;
	u32 zero = 0;
	long length;

	if (FIELD(root, hierarchy_id)) /* version 1 hierarchies have other numbers; 0 is the default hierarchy */
		return 0;
	record = bpf_map_lookup_elem(MAP(cgroup_scratch), &zero);
	if (!record)
		return 0;
	record->id = FIELD(kn, id);
	length = bpf_probe_read_kernel_str(record->path, sizeof(record->path), path);
	if (length <= 0 || length > MAX_CGROUP_PATH)
		return 0;
	if (bpf_ringbuf_output(MAP(cgroups), record, sizeof(record->id) + (length & (MAX_CGROUP_PATH - 1)), 0))
		lost(LOSS_CGROUPS_FULL);
	return 0;
}

#endif
