"""Which programs there are, what each is for, and how a probe's state is told.

A hook that a kernel lacks degrades the metrics that need it and nothing else.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from flowlens import metrics


class Attachment(enum.Enum):
    """How a program meets the kernel."""

    TRACEPOINT = "tracepoint"
    FILES = "iterator over open files"
    SOCKETS = "iterator over tracked sockets"


class Program(NamedTuple):
    """`hook`: what users and `metrics.Metric.hooks` call it; `name`: the C function.

    `core` programs must load or the agent has nothing to offer. Those not `optional_by_metrics` are
    attached whatever the configuration says. `twin_of`: hook that has this one as its second program.
    """

    hook: str
    name: str
    attachment: Attachment
    purpose: str
    core: bool = False
    optional_by_metrics: bool = True
    twin_of: str = ""

    @property
    def tracepoint(self) -> str:
        """The kernel's name of what a tracepoint program is attached to."""
        return self.twin_of or self.hook


PROGRAMS: tuple[Program, ...] = (
    Program(
        metrics.SET_STATE,
        "hook_inet_sock_set_state",
        Attachment.TRACEPOINT,
        "connects, accepts, failures, durations, open connections",
        core=True,
    ),
    Program(
        "inet_sock_set_state_again",
        "again_inet_sock_set_state",
        Attachment.TRACEPOINT,
        "the same for events that interrupted the former, which the kernel keeps from it",
        twin_of=metrics.SET_STATE,
    ),
    Program(
        metrics.RETRANSMIT, "hook_tcp_retransmit_skb", Attachment.TRACEPOINT, "retransmissions", core=True
    ),
    Program(
        metrics.SYNACK,
        "hook_tcp_retransmit_synack",
        Attachment.TRACEPOINT,
        "retransmitted SYN-ACKs",
        core=True,
    ),
    Program(metrics.SEND_RESET, "hook_tcp_send_reset", Attachment.TRACEPOINT, "resets sent", core=True),
    Program(
        metrics.RECEIVE_RESET, "hook_tcp_receive_reset", Attachment.TRACEPOINT, "resets received", core=True
    ),
    Program(
        metrics.ERROR_REPORT,
        "hook_inet_sk_error_report",
        Attachment.TRACEPOINT,
        "why a connect failed, where the kernel lets the application end it",
    ),
    Program(
        "cgroup_mkdir",
        "hook_cgroup_mkdir",
        Attachment.TRACEPOINT,
        "names of containers that live only for a moment",
        optional_by_metrics=False,
    ),
    Program(
        "task_file",
        "files_adopt",
        Attachment.FILES,
        "sockets that were open before the agent",
        optional_by_metrics=False,
    ),
    Program(
        "sk_storage",
        "sweep_live",
        Attachment.SOCKETS,
        "open connections by flow",
        optional_by_metrics=False,
    ),
)
BY_HOOK = {program.hook: program for program in PROGRAMS}
TRACEPOINTS = {p.hook: p.tracepoint for p in PROGRAMS if p.attachment is Attachment.TRACEPOINT}
"""hook -> tracepoint"""
TWINS = {p.twin_of: p.hook for p in PROGRAMS if p.twin_of}
"""hook -> its second program's hook"""


class Probe(NamedTuple):
    """State of one hook. `up`: attached, or ready to run. `reason`: why not; "off" when no metric wants it."""

    hook: str
    purpose: str
    up: bool
    reason: str = ""
    remedy: str = ""


OFF = "off"


def needed_hooks(enabled: frozenset[str]) -> frozenset[str]:
    """Hooks that the enabled metrics need, and those that are always there."""
    wanted = {hook for name in enabled for hook in metrics.BY_NAME[name].hooks}
    return frozenset(wanted | {p.hook for p in PROGRAMS if not p.optional_by_metrics or p.twin_of in wanted})
