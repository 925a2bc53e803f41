"""Engine bcc on the running kernel: what it loads, how it starts from its cache, and what it does when it cannot."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowlens import metrics
from flowlens.kernel import core, engines, errors, layout, maps, probes, tracer
from flowlens.kernel.bcc import bytecode, cache, compiler, engine, sources, ways
from tests.kernel import conftest, traffic
from tests.kernel.counts import Counts, until
from tests.kernel.namespace import Process

pytestmark = pytest.mark.kernel
SOCKET_KEY_BYTES, SOCKET_OWNER_NETNS = 8, 8


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> cache.Cache:
    """A cache with the bytecode of both ways."""
    made = cache.Cache(tmp_path_factory.mktemp("cache") / "flow-lens")
    for way in (ways.Way.TYPED, ways.Way.RAW):
        engine.bytecode_for(way, made)
    return made


def _close(loaded: core.Loaded) -> None:
    tracer.Tracer(loaded, conftest.EVERYTHING).close()


# what is loaded ----------------------------------------------------------------------------------


def test_way_typed_loads_every_program(store: cache.Cache) -> None:
    loaded = engine.load("typed", store=store)
    assert (loaded.engine, loaded.way, loaded.typed) == ("bcc", "typed", True)
    assert loaded.programs.keys() == probes.BY_HOOK.keys()
    assert not loaded.failures
    _close(loaded)


def test_way_raw_loads_every_hook_and_says_why_there_are_no_iterators(store: cache.Cache) -> None:
    loaded = engine.load("raw", store=store)
    assert (loaded.way, loaded.typed) == ("raw", False)
    assert loaded.programs.keys() == set(probes.TRACEPOINTS)
    assert loaded.failures.keys() == {"task_file", "sk_storage"}
    running = tracer.Tracer(loaded, conftest.EVERYTHING)
    running.start()
    reasons = {state.hook: state.reason for state in running.probe_states() if not state.up}
    assert "no iterators" in reasons["task_file"]
    assert "no socket storage" in reasons["sk_storage"]
    running.close()


@pytest.mark.parametrize("way", ["typed", "raw"])
def test_maps_have_the_sizes_that_python_reckons_with(way: str, store: cache.Cache) -> None:
    shapes = engine.bytecode_for(ways.Way(way), store).maps
    assert (shapes["totals"].key_bytes, shapes["totals"].value_bytes) == (layout.KEY.size, layout.VALUE.size)
    assert (shapes["flows"].key_bytes, shapes["flows"].value_bytes) == (layout.FLOW.size, layout.VALUE.size)
    assert shapes["totals"].entries == shapes["flows"].entries == layout.MAX_ENTRIES
    assert shapes["settings"].value_bytes == layout.SETTINGS_BYTES
    assert shapes["losses"].entries == len(layout.LOSSES)


def test_both_engines_know_the_same_reset_reasons(store: cache.Cache) -> None:
    by_bcc, by_core = engine.load("typed", store=store), core.load()
    assert dict(by_bcc.reset_reasons()) == dict(by_core.reset_reasons()) != {}
    _close(by_bcc)
    _close(by_core)


def test_a_reference_to_something_that_is_no_map_of_ours_is_refused(store: cache.Cache) -> None:
    built = engine.bytecode_for(ways.Way.TYPED, store)
    with pytest.raises(bytecode.Malformed, match="no map of ours"):
        bytecode.with_maps("f", built.programs["hook_tcp_send_reset"], {})


# the table that stands in for socket storage -----------------------------------------------------


@pytest.fixture
def raw(store: cache.Cache) -> Iterator[Counts]:
    settings = dataclasses.replace(conftest.EVERYTHING, masks={"accept": layout.FIELDS["pid"]})
    running = tracer.Tracer(engine.load("raw", store=store), settings)
    running.start()
    yield Counts(running)
    running.close()


def _tracked(counts: Counts, netns: int, store: cache.Cache) -> int:
    """Sockets of a namespace that have an entry in the table."""
    value_bytes = engine.bytecode_for(ways.Way.RAW, store).maps["sockets"].value_bytes
    reader = maps.BatchReader(counts.tracer._maps["sockets"], SOCKET_KEY_BYTES, value_bytes)
    owners = [
        bytes(value[SOCKET_OWNER_NETNS : SOCKET_OWNER_NETNS + 4])
        for table in reader.read()
        for value in _chunks(table.values, value_bytes)
    ]
    return sum(int.from_bytes(owner, "little") == netns for owner in owners)


def _chunks(view: memoryview, size: int) -> list[memoryview]:
    return [view[start : start + size] for start in range(0, len(view), size)]


def test_the_table_holds_live_sockets_only(raw: Counts, ns: Process, store: cache.Cache) -> None:
    ns.run(traffic.exchange_in_parallel, "127.0.0.1", 60)
    ns.run(traffic.refused, "127.0.0.1", 20)
    assert raw.total(ns, "accept") == ns.snmp()["PassiveOpens"] == 60
    until(lambda: _tracked(raw, ns.netns, store) == 0, "entries of closed sockets dropped")


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "dual"])
def test_an_accepted_socket_has_its_listeners_pid(address: str, raw: Counts, ns: Process) -> None:
    with contextlib.closing(Process(ns)) as client:
        port = ns.run(traffic.listen, address)
        client.run(traffic.hold, "127.0.0.1" if address == "dual" else address, port, 5)
        accepts = raw.rows(ns.netns, "accept")
        assert {(row.pid, row.count) for row in accepts} == {(ns.pid, 5)}
        client.run(traffic.release)


def test_a_port_that_another_process_listens_on_later_is_that_ones(raw: Counts, ns: Process) -> None:
    port = ns.run(traffic.listen, "127.0.0.1")
    ns.run(traffic.hold, "127.0.0.1", port, 2)
    ns.run(traffic.release)
    with contextlib.closing(Process(ns)) as second:
        until(lambda: _listens(second, port), "the port is free again")
        second.run(traffic.hold, "127.0.0.1", port, 3)
        found = {row.pid: row.count for row in raw.rows(ns.netns, "accept")}
        assert found == {ns.pid: 2, second.pid: 3}


def _listens(process: Process, port: int) -> bool:
    return bool(process.run(_listen_again, port))


def _listen_again(port: int) -> bool:
    try:
        traffic.listen("127.0.0.1", port=port)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True


def test_a_metric_that_is_switched_on_counts_only_from_then_on(
    raw: Counts, pair: tuple[Process, Process]
) -> None:
    client, server = pair
    port = server.run(traffic.serve_bulk)
    raw.apply(dataclasses.replace(conftest.EVERYTHING, enabled=frozenset()))
    client.run(traffic.hold, "192.0.2.2", port, 1)
    raw.apply(conftest.EVERYTHING)
    client.run(traffic.release)
    until(lambda: client.snmp()["CurrEstab"] == 0, "closed")
    assert raw.total(client, "connect") == raw.total(client, "connections") == 0


# start -------------------------------------------------------------------------------------------


def test_a_second_start_needs_no_compiler(store: cache.Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiler, "compile_programs", None)
    _close(engine.load("typed", store=store))


def test_a_damaged_entry_is_made_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = cache.Cache(tmp_path / "cache")
    first = engine.bytecode_for(ways.Way.TYPED, store)
    (entry,) = (tmp_path / "cache").iterdir()
    good = entry.read_bytes()
    entry.write_bytes(good[:1000])
    assert engine.bytecode_for(ways.Way.TYPED, store) == first
    assert "refused" in caplog.text
    assert entry.read_bytes() == good


@pytest.mark.parametrize("changed", ["kernel", "source", "bcc"])
def test_bytecode_is_not_taken_over_to_another(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = cache.Cache(tmp_path / "cache")
    engine.bytecode_for(ways.Way.RAW, store)
    match changed:
        case "kernel":
            monkeypatch.setattr(ways, "kernel_build", lambda *_arguments: "another build")
        case "source":
            files = sources.read(sources.folder())
            monkeypatch.setattr(
                sources, "read", lambda _folder: {**files, "records.h": files["records.h"] + "\n"}
            )
        case _:
            monkeypatch.setattr(engine, "_BCC_PLACES", ())
    engine.bytecode_for(ways.Way.RAW, store)
    assert len(list((tmp_path / "cache").iterdir())) == 2


def test_the_agents_process_never_maps_llvm_or_imports_bcc(tmp_path: Path) -> None:
    program = """
import json, sys
from flowlens.kernel import engines
loaded = engines.load("bcc")
mapped = [line.split()[-1] for line in open("/proc/self/maps") if len(line.split()) > 5]
print(json.dumps({"way": loaded.way, "mapped": mapped, "bcc": "bcc" in sys.modules}))
"""
    output = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True, check=True, text=True, timeout=60, env={"FLOWLENS_CACHE_DIR": str(tmp_path / "cache")},
    ).stdout  # fmt: skip
    told = json.loads(output)
    assert told["way"] == "typed"
    assert not told["bcc"]
    assert any("libbpf.so" in path for path in told["mapped"])
    assert not [
        path for path in told["mapped"] if any(name in path.lower() for name in ("llvm", "clang", "libbcc"))
    ]
    assert list((tmp_path / "cache").iterdir()), "it did compile"


# choice ------------------------------------------------------------------------------------------


def test_auto_takes_core_where_it_runs() -> None:
    loaded = engines.load("auto")
    assert (loaded.engine, loaded.way) == ("core", "")
    _close(loaded)


def test_auto_takes_bcc_where_core_does_not_run(
    monkeypatch: pytest.MonkeyPatch, store: cache.Cache, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(core, "load", _unavailable)
    monkeypatch.setattr(cache, "Cache", lambda: store)
    caplog.set_level(logging.INFO)
    loaded = engines.load("auto")
    assert (loaded.engine, loaded.way) == ("bcc", "typed")
    assert "core does not run here" in caplog.text
    _close(loaded)


def test_auto_takes_bcc_where_the_kernel_refuses_the_programs_that_count(
    monkeypatch: pytest.MonkeyPatch, store: cache.Cache
) -> None:
    """5.10 does so: of core's programs it takes the one for new cgroups."""
    found = core.load()
    refused = {
        hook: "unknown func bpf_sk_storage_get#107" for hook in found.programs if hook != "cgroup_mkdir"
    }
    for hook in refused:
        os.close(found.programs[hook])
    left = {"cgroup_mkdir": found.programs["cgroup_mkdir"]}
    monkeypatch.setattr(core, "load", lambda: found._replace(programs=left, failures=refused))
    monkeypatch.setattr(cache, "Cache", lambda: store)
    loaded = engines.load("auto")
    assert (loaded.engine, loaded.way) == ("bcc", "typed")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(left["cgroup_mkdir"])
    _close(loaded)


def _unavailable() -> core.Loaded:
    raise errors.Unavailable("core is not for this kernel")


def test_auto_says_in_one_sentence_what_to_install_when_nothing_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(core, "load", _unavailable)
    monkeypatch.setattr(compiler.compile_programs, "__kwdefaults__", _with_python(sys.executable))
    monkeypatch.setenv(cache.FOLDER_VARIABLE, str(tmp_path / "empty"))
    with pytest.raises(errors.Unavailable, match=r"no engine runs here.*not for this kernel.*python3-bpfcc"):
        engines.load("auto")


def _with_python(python: str) -> dict[str, object]:
    return {**(compiler.compile_programs.__kwdefaults__ or {}), "python": python}


def test_without_btf_the_headers_way_is_chosen_and_missing_headers_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert ways.choose(None, types=tmp_path / "vmlinux") is ways.Way.HEADERS
    monkeypatch.setattr(ways, "MODULES", tmp_path)
    monkeypatch.delenv(ways.HEADERS_VARIABLE, raising=False)
    with pytest.raises(errors.Unavailable, match="linux-headers-"):
        ways.find_headers()


@pytest.mark.parametrize("way", ["typed", "raw"])
def test_a_way_that_needs_btf_says_so_where_there_is_none(way: str, tmp_path: Path) -> None:
    with pytest.raises(errors.Unavailable, match=r"no BTF.*headers"):
        ways.choose(way, types=tmp_path / "vmlinux")


@pytest.mark.parametrize(
    ("release", "numbers"),
    [("5.10.0-32-amd64", (5, 10)), ("6.18.44-fc-v669", (6, 18)), ("7.2.13+deb14", (7, 2))],
)
def test_releases_are_compared_by_number(release: str, numbers: tuple[int, int]) -> None:
    assert ways.release(release) == numbers


def test_every_metric_counts_with_way_raw(raw: Counts) -> None:
    up = {state.hook for state in raw.tracer.probe_states() if state.up}
    assert up >= {hook for metric in metrics.CATALOGUE for hook in metric.hooks}
