"""What attribution itself did and could not do, for the agent's own health metrics."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Running totals since start; they only grow.

    `rescans` of the cgroup tree, `unreadable_cgroups` folders met in them; `process_scans` of /proc,
    `unreadable_processes` met in them (missing CAP_SYS_PTRACE); `refused_paths`: paths of processes
    that could not be told from our cgroup namespace (see procfs.namespace_root).
    """

    rescans: int = 0
    unreadable_cgroups: int = 0
    process_scans: int = 0
    unreadable_processes: int = 0
    refused_paths: int = 0

    @property
    def unreadable(self) -> int:
        """Everything that was there and could not be read."""
        return self.unreadable_cgroups + self.unreadable_processes
