"""`flowlens top` with a real agent: what the table says is what was done."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowlens.cli import failure
from flowlens.cli.top import endpoint, owners, rates
from flowlens.host import cgroupfs

from . import conftest

pytestmark = pytest.mark.kernel

CLIENT = """
import socket, sys
from pathlib import Path
Path(sys.argv[1], "cgroup.procs").write_text("0")
for _ in range(20):
    socket.create_connection(("127.0.0.1", int(sys.argv[2]))).close()
with socket.socket() as refused:
    sys.exit(refused.connect_ex(("127.0.0.1", 1)) == 0)
"""


@pytest.fixture
def agent() -> Iterator[endpoint.Endpoint]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    process = subprocess.Popen(
        [*conftest.COMMAND, "agent", "--listen", address, "--kube", "off"],
        cwd=conftest.ROOT,
        env=conftest.own_environment(),
        stdout=subprocess.DEVNULL,
    )
    found = endpoint.Endpoint.of(address, None, insecure=False)
    try:
        conftest.wait_until(lambda: _answers(found))
        yield found
    finally:
        found.pool.clear()
        process.send_signal(signal.SIGTERM)
        assert process.wait(conftest.DEADLINE_SECONDS) == 0


@pytest.fixture
def service() -> Iterator[Path]:
    """The cgroup of a service that exists only for this test."""
    mount = cgroupfs.find_mount(Path("/sys/fs/cgroup"))
    assert mount is not None
    folder = mount.path / f"flowlens-{uuid.uuid4().hex[:8]}.service"
    folder.mkdir()
    yield folder
    conftest.wait_until(lambda: (folder / "cgroup.procs").read_text() == "")
    folder.rmdir()


def _answers(found: endpoint.Endpoint) -> bool:
    try:
        found.scrape()
    except failure.CommandFailedError:
        return False
    return True


def _visit(service: Path) -> None:
    """Twenty connections that succeed and one that is refused, by a process of the service."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        port = str(server.getsockname()[1])
        subprocess.run([conftest.COMMAND[0], "-c", CLIENT, str(service), port], check=True, timeout=30)


def test_the_row_of_a_service_says_what_it_did(agent: endpoint.Endpoint, service: Path) -> None:
    before = agent.scrape()
    _visit(service)
    after = agent.scrape()
    seconds = after.taken_at - before.taken_at
    rows = {row.title: row for row in rates.between(before, after, owners.grouping("workload"))}
    row = rows[service.name]
    assert row.kind == "SystemdService"
    assert row.connects == pytest.approx(21 / seconds)
    assert row.failures == pytest.approx(1 / seconds)
    assert row.p50 is not None
    assert row.accepts == 0


def test_once_knows_the_services_of_the_agent(
    agent: endpoint.Endpoint, service: Path, run: conftest.Run
) -> None:
    _visit(service)
    done = run("top", "--once", "--json", "--interval", "0.1", "--url", agent.url)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert service.name in {owner["owner"] for owner in found["owners"]}
    assert found["agent"]["engine"] == "core"
