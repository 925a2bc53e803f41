"""The kernel side at work: programs attached as far as metrics need them, settings in force, rows read.

Settings change in one step that loses nothing: write the inactive copy with a new generation, make it
the active one, wait until no program uses the old one, then hand over the flows of older generations.
Not thread-safe: its owner (agent) holds one lock.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from flowlens import metrics
from flowlens.kernel import cgroup_events, core, errors, layout, libbpf, maps, probes, reading
from flowlens.kernel.reading import Reading, Table

GENERATION_OFFSET = 16  # in fl_key, after cgroup, netns and pid
_MAPS = ("totals", "flows", "sockets", "settings", "active", "flows_used", "losses", "cgroups")


class Tracer:
    """Owns the file descriptors of one loaded engine until `close`."""

    def __init__(self, loaded: core.Loaded, settings: layout.Settings) -> None:
        maps.require(dict(loaded.maps), _MAPS)
        self.engine, self.way = loaded.engine, loaded.way
        self._loaded, self._maps = loaded, dict(loaded.maps)
        self._links: dict[str, int] = {}
        self._failures = dict(loaded.failures)
        self._totals = maps.BatchReader(self._maps["totals"], layout.KEY.size, layout.VALUE.size)
        self._flows = maps.BatchReader(self._maps["flows"], layout.FLOW.size, layout.VALUE.size)
        self.cgroups = cgroup_events.CgroupEvents(self._maps["cgroups"])
        self._slot, self.generation = 0, 0
        self._bounds_generations: dict[str, int] = {}
        self._settings = settings
        self._entries = {"totals": 0, "flows": 0}

    @functools.cached_property
    def reset_reasons(self) -> Mapping[int, str]:
        """This kernel's numbers of reset reasons, and their names."""
        return self._loaded.reset_reasons()

    @property
    def described(self) -> str:
        """The engine and its way, for people."""
        return f"{self.engine} ({self.way})" if self.way else self.engine

    def start(self) -> None:
        """Settings, then hooks, then the sockets that are already there."""
        for key in layout.rows_made_in_advance():
            self._make_row(key)
        self._next_generation(self._settings)
        self._attach(self._settings)
        self._adopt(rebase=False)

    def apply(self, settings: layout.Settings) -> Table:
        """Puts settings in force; returns the rows of `flows` that belong to the former ones.

        Afterwards nothing writes to those rows: add them up, then call `discard` with them.
        """
        before, self._settings = self._settings, settings
        self._next_generation(settings)
        self._attach(settings)
        self._detach(settings)
        libbpf.grace_period()
        self._drop_former_histograms()
        gained = settings.enabled - before.enabled
        ports_before = (before.include_ports, before.exclude_ports)
        if gained or ports_before != (settings.include_ports, settings.exclude_ports):
            self._adopt(rebase="retransmit_segments" in gained)
        return self._former_flows()

    def discard(self, rows: Table) -> None:
        """Deletes rows that `apply` returned."""
        maps.delete(self._maps["flows"], [key for key, _, _ in rows.rows(layout.FLOW.size)])

    def take(self, keys: list[bytes]) -> Table:
        """Reads and deletes rows of `totals`; only for owners that are gone, whose rows nothing writes to."""
        fd = self._maps["totals"]
        rows = [(key, maps.lookup(fd, key, layout.VALUE.size)) for key in keys]
        found = [(key, value) for key, value in rows if value is not None]
        maps.delete(fd, [key for key, _ in found])
        keys_read, values = b"".join(key for key, _ in found), b"".join(value for _, value in found)
        return Table(memoryview(keys_read), memoryview(values), len(found))

    def read(self) -> Reading:
        """All rows, once, while the caller goes over them; one pass at a time."""
        live = reading.EMPTY
        if self._settings.masks.get("connections") and "connections" in self._settings.enabled:
            live = self._read_live()
        return Reading(self._counted("totals", self._totals), self._counted("flows", self._flows), live)

    def _counted(self, name: str, reader: maps.BatchReader) -> Iterator[Table]:
        rows = 0
        for table in reader.read():
            rows += table.count
            yield table
        self._entries[name] = rows

    def losses(self) -> Mapping[tuple[str, str], int]:
        """What did not fit, by (map, errno), since the start."""
        fd = self._maps["losses"]
        return {what: maps.lookup_u64(fd, index) for index, what in enumerate(layout.LOSSES)}

    def missed_runs(self) -> Mapping[str, int]:
        """By hook: events that the kernel kept from its program, because they interrupted it on the same CPU.

        Not of hooks with a twin, for what either of them misses the other is told. `recursion_misses` of the
        program's fdinfo (since 5.12); 0 where the kernel does not tell.
        """
        paired = {hook for pair in probes.TWINS.items() for hook in pair if pair[1] in self._links}
        return {
            hook: _recursion_misses(fd) for hook, fd in self._loaded.programs.items() if hook not in paired
        }

    def entries(self) -> Mapping[str, int]:
        """Rows at the last read, by map."""
        return dict(self._entries)

    def capacities(self) -> Mapping[str, int]:
        """Rows that fit, by map; `flows` as configured."""
        return {"totals": layout.MAX_ENTRIES, "flows": min(self._settings.max_flows, layout.MAX_ENTRIES)}

    def probe_states(self) -> tuple[probes.Probe, ...]:
        """Every hook with its state."""
        return tuple(self._probe(program) for program in probes.PROGRAMS)

    def close(self) -> None:
        """Detaches everything; the kernel frees programs and maps when their last descriptor is gone."""
        self.cgroups.close()
        own = self._loaded
        for fd in (*self._links.values(), *own.links.values(), *own.programs.values(), *self._maps.values()):
            os.close(fd)
        self._links, self._maps = {}, {}

    # settings ------------------------------------------------------------------------------------

    def _next_generation(self, settings: layout.Settings) -> None:
        self.generation += 1
        for name in layout.HISTOGRAMS:
            if name not in self._bounds_generations or self._bounds_changed(name, settings):
                self._bounds_generations[name] = self.generation
                bounds = settings.bounds.get(name, ())
                for key in layout.histogram_rows_made_in_advance(name, len(bounds), self.generation):
                    self._make_row(key)
        self._written_bounds = dict(settings.bounds)
        maps.update(self._maps["flows_used"], _u32(self.generation & 1), bytes(8), name="flows_used")
        self._write(settings, flags=layout.FLAG_ADOPT_CONNECTIONS)

    def _bounds_changed(self, name: str, settings: layout.Settings) -> bool:
        return self._written_bounds.get(name, ()) != settings.bounds.get(name, ())

    def _write(self, settings: layout.Settings, *, flags: int) -> None:
        self._slot ^= 1
        raw = layout.encode(
            settings,
            generation=self.generation,
            bounds_generations=self._bounds_generations,
            flags=flags,
        )
        maps.update(self._maps["settings"], _u32(self._slot), raw, name="settings")
        maps.update(self._maps["active"], _u32(0), _u32(self._slot), name="active")

    def _make_row(self, key: bytes) -> None:
        maps.update(
            self._maps["totals"], key, bytes(layout.VALUE.size), flags=maps.BPF_NOEXIST, name="totals"
        )

    # hooks ---------------------------------------------------------------------------------------

    def _attach(self, settings: layout.Settings) -> None:
        wanted = probes.needed_hooks(settings.enabled) | self._loaded.always
        for hook, fd in self._loaded.programs.items():
            program = probes.BY_HOOK[hook]
            if hook in self._links or hook not in wanted:
                continue
            try:
                self._links[hook] = self._attach_program(program, fd)
                self._failures.pop(hook, None)
            except errors.SystemCallFailed as error:
                self._failures[hook] = str(error)

    def _attach_program(self, program: probes.Program, fd: int) -> int:
        if program.attachment is probes.Attachment.TRACEPOINT:
            return libbpf.attach_tracepoint(
                fd, None if self._loaded.typed else program.tracepoint, program.hook
            )
        over_sockets = program.attachment is probes.Attachment.SOCKETS
        return libbpf.attach_iterator(fd, program.hook, self._maps["sockets"] if over_sockets else None)

    def _detach(self, settings: layout.Settings) -> None:
        wanted = probes.needed_hooks(settings.enabled) | self._loaded.always
        for hook in [hook for hook in self._links if hook not in wanted]:
            os.close(self._links.pop(hook))

    def _probe(self, program: probes.Program) -> probes.Probe:
        if program.hook in self._links:
            return probes.Probe(program.hook, program.purpose, up=True)
        reason = self._failures.get(program.hook, probes.OFF)
        return probes.Probe(program.hook, program.purpose, up=False, reason=reason)

    # sockets that exist --------------------------------------------------------------------------

    def _adopt(self, *, rebase: bool) -> None:
        """Two passes over open files: listeners first, because they tell which end a connection is."""
        link = self._links.get("task_file")
        if link is None:
            return
        self._write(self._settings, flags=0)
        libbpf.run_iterator(link)
        self._write(
            self._settings,
            flags=layout.FLAG_ADOPT_CONNECTIONS | (layout.FLAG_REBASE if rebase else 0),
        )
        libbpf.run_iterator(link)
        if rebase:
            self._write(self._settings, flags=layout.FLAG_ADOPT_CONNECTIONS)

    def _read_live(self) -> Table:
        link = self._links.get("sk_storage")
        raw = libbpf.run_iterator(link) if link is not None else b""
        count = len(raw) // layout.FLOW.size
        return Table(memoryview(raw), memoryview(layout.VALUE.pack(1, 0) * count), count)

    # rows of former settings ---------------------------------------------------------------------

    def _former_flows(self) -> Table:
        now = _u32(self.generation)
        rows = [
            (key, count, total)
            for table in self._flows.read()
            for key, count, total in table.rows(layout.FLOW.size)
            if key[GENERATION_OFFSET : GENERATION_OFFSET + 4] != now
        ]
        keys = b"".join(key for key, _, _ in rows)
        values = b"".join(layout.VALUE.pack(count, total) for _, count, total in rows)
        return Table(memoryview(keys), memoryview(values), len(rows))

    def _drop_former_histograms(self) -> None:
        current = {
            metrics.BY_NAME[name].number: generation for name, generation in self._bounds_generations.items()
        }
        former = []
        for table in self._totals.read():
            for key, _, _ in table.rows(layout.KEY.size):
                _, _, _, generation, _, _, metric, *_ = layout.KEY.unpack(key)
                if metric in current and generation != current[metric]:
                    former.append(key)
        maps.delete(self._maps["totals"], former)


def _u32(number: int) -> bytes:
    return number.to_bytes(4, "little")


def _recursion_misses(fd: int) -> int:
    for line in Path(f"/proc/self/fdinfo/{fd}").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name == "recursion_misses":
            return int(value)
    return 0
