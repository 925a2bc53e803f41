"""Way headers: the programs compiled against the headers that Debian ships, as on a node without BTF.

The packages are fetched once with apt-get into a folder outside the checkout, which the compiler's unprivileged
process can read.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from flowlens.kernel import errors, probes, tracer
from flowlens.kernel.bcc import bytecode, cache, engine, sources, ways
from tests.kernel import conftest

pytestmark = [pytest.mark.kernel, pytest.mark.timeout(300)]
FOLDER = Path(os.environ.get("FLOWLENS_TEST_HEADERS", "/var/tmp/flow-lens-tests/headers"))
META_PACKAGE = f"linux-headers-{ {'x86_64': 'amd64', 'aarch64': 'arm64'}[os.uname().machine] }"


def _command(*command: str, folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def _depends(package: str, pattern: str) -> str:
    found = re.search(
        rf"Depends: (linux-headers-{pattern})", _command("apt-cache", "depends", package, folder=FOLDER)
    )
    assert found, f"{package} depends on no linux-headers-{pattern}: run apt-get update"
    return found[1]


def _fetch() -> None:
    """Unpacks the two halves of the headers: what this build of the kernel generated, and what all builds share."""
    build = _depends(META_PACKAGE, r"\d\S*")
    for package in (build, _depends(build, r"\S*-common\S*")):
        _command("apt-get", "download", "-o", "APT::Sandbox::User=root", package, folder=FOLDER)
    for archive in FOLDER.glob("*.deb"):
        _command("dpkg-deb", "-x", archive.name, ".", folder=FOLDER)
        archive.unlink()


@pytest.fixture(scope="module")
def headers() -> ways.Headers:
    """Debian's newest headers of this release."""
    FOLDER.mkdir(parents=True, exist_ok=True, mode=0o755)
    assert FOLDER.stat().st_uid == os.geteuid(), f"{FOLDER} belongs to somebody else"
    if not list(FOLDER.glob("usr/src/*/include/generated/autoconf.h")):
        _fetch()
    (generated,) = FOLDER.glob("usr/src/*/include/generated/autoconf.h")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(ways.HEADERS_VARIABLE, str(generated.parents[2]))
        return ways.find_headers()


def test_debians_two_halves_are_found(headers: ways.Headers) -> None:
    assert (headers.source / "include/net/tcp.h").exists()
    assert not (headers.build / "include/net/tcp.h").exists()
    assert headers.source.name.endswith("-common")


def test_the_programs_compile_against_debians_headers_and_the_verifier_takes_them(
    headers: ways.Headers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ways.HEADERS_VARIABLE, str(headers.build))
    store = cache.Cache(tmp_path / "cache")
    built = engine.bytecode_for(ways.Way.HEADERS, store)
    expected = {probe.name for probe in probes.PROGRAMS if probe.hook in probes.TRACEPOINTS}
    assert built.programs.keys() == expected | set(engine.FORGET_FUNCTIONS)
    # Offsets are those of Debian's kernel and not of this one; what the verifier checks is the same.
    loaded = engine.load("headers", store=store)
    assert (loaded.way, loaded.typed) == ("headers", False)
    assert loaded.programs.keys() == set(probes.TRACEPOINTS)
    tracer.Tracer(loaded, conftest.EVERYTHING).close()


def test_both_ways_without_iterators_make_the_same_maps(headers: ways.Headers, tmp_path: Path) -> None:
    files = sources.read(sources.folder())
    raw, by_headers = engine.build(ways.Way.RAW, files), engine.build(ways.Way.HEADERS, files, headers)
    assert _sizes(raw) == _sizes(by_headers)
    assert raw.programs.keys() == by_headers.programs.keys()


def _sizes(built: bytecode.Bytecode) -> dict[str, tuple[int, ...]]:
    return {
        name: (shape.type, shape.key_bytes, shape.value_bytes, shape.entries, shape.extra)
        for name, shape in built.maps.items()
    }


def test_half_of_the_headers_is_told(
    headers: ways.Headers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "include/generated").mkdir(parents=True)
    (tmp_path / "include/generated/autoconf.h").touch()
    monkeypatch.setenv(ways.HEADERS_VARIABLE, str(tmp_path))
    with pytest.raises(errors.Unavailable, match="half of the kernel's headers"):
        ways.find_headers()
