"""`flowlens check`: what this machine can run, probe by probe, and what to do where it cannot.

The programs are loaded for real and let go again; nothing is attached.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from flowlens import cli, metrics
from flowlens.cli import arguments, check_text, conditions, machine
from flowlens.kernel import engines, errors, probes

ABOUT = (
    "Says what this machine can run: conditions first, then every probe, loaded into the kernel for real\n"
    "and let go again. Exit status 0 if the agent can run here, which needs the probes marked `core`."
)
EXAMPLES = (
    ("sudo flowlens check", "before the first start"),
    ("sudo flowlens check --json | jq '.probes[] | select(.up | not)'", "only what does not work"),
    (
        "flowlens check --host-proc /host/proc --host-cgroup /host/sys/fs/cgroup",
        "inside the agent's container",
    ),
    ("sudo flowlens check --listen 0.0.0.0:9100 >/dev/null && systemctl start flowlens", "in a script"),
)


@dataclass(frozen=True, slots=True)
class ProbeFinding:
    """`up`: the kernel took the program. `core`: the agent cannot do without."""

    hook: str
    purpose: str
    core: bool
    up: bool
    reason: str = ""
    remedy: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """What `--json` prints, with `ok` in front."""

    version: str
    engine: str
    conditions: tuple[conditions.Finding, ...]
    probes: tuple[ProbeFinding, ...]

    @property
    def ok(self) -> bool:
        """Does the core set run?"""
        return all(probe.up for probe in self.probes if probe.core)


def main(argv: Sequence[str]) -> int:
    """Prints the report; 0 if the core set runs, else 1."""
    options = _parser().read(argv)
    engine, found = load(options.engine)
    looked = conditions.look(options.host_proc, options.host_cgroup, options.listen)
    report = Report(cli.version(), engine, looked, found)
    if options.json:
        print(json.dumps({"ok": report.ok, **asdict(report)}, indent=2))
    else:
        print(check_text.render(report))
    return 0 if report.ok else 1


def _parser() -> arguments.Parser:
    parser = arguments.Parser("flowlens check", ABOUT, EXAMPLES)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    machine.add_flags(parser)
    return parser


def load(engine: str) -> tuple[str, tuple[ProbeFinding, ...]]:
    """Name of the engine that was used ("" for none), and every probe."""
    try:
        loaded = engines.load(engine)
    except errors.KernelError as error:
        reason, remedy = conditions.split(str(error))
    except OSError as error:
        reason, remedy = f"{error.filename}: {error.strerror}", "mend the conditions first"
    else:
        for fd in (*loaded.maps.values(), *loaded.programs.values()):
            os.close(fd)
        name = f"{loaded.engine} ({loaded.way})" if loaded.way else loaded.engine
        return name, tuple(_probe(program, loaded.failures) for program in probes.PROGRAMS)
    everything = {program.hook: reason for program in probes.PROGRAMS}
    return "", tuple(_probe(program, everything, remedy) for program in probes.PROGRAMS)


def _probe(program: probes.Program, failures: Mapping[str, str], remedy: str = "") -> ProbeFinding:
    reason = failures.get(program.hook, "")
    if not reason:
        return ProbeFinding(program.hook, program.purpose, program.core, up=True)
    return ProbeFinding(
        program.hook,
        program.purpose,
        program.core,
        up=False,
        reason=reason,
        remedy=remedy or _remedy(program, reason),
    )


def _remedy(program: probes.Program, reason: str) -> str:
    """For a program that failed alone, or was refused although all conditions hold."""
    if errno.errorcode[errno.EPERM] in reason or os.strerror(errno.EPERM) in reason:
        return (
            "the kernel forbids it although the capabilities are there: see /sys/kernel/security/lockdown "
            "(confidentiality) and the container's seccomp profile"
        )
    missing = [metric.exposed for metric in metrics.CATALOGUE if program.hook in metric.hooks]
    without = (
        f"without it these stay empty: {', '.join(missing)}"
        if missing
        else f"not available: {program.purpose}"
    )
    if "no such tracepoint" in reason:
        return f"use a newer kernel; {without}"
    return f"report it with the output of `flowlens check --json`; {without}"
