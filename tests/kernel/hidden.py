"""Events that the machine under the tests hides from BPF, counted by the tracepoint's own record.

The sandbox these tests often run in does not run tracing programs while a thread of its supervisor (pid 1) is current, also
not for packets that happen to be handled then, and counts no missed run. On other machines such events reach the programs
like all others. So a test with very many connections asks: what is missing, is it no more than what pid 1's threads had?
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from types import TracebackType
from uuid import uuid4

_EVENT = "events/sock/inet_sock_set_state"
_NEW_STATE = re.compile(r" newstate=TCP_(\w+)$", re.MULTILINE)


class Hidden:
    """`with Hidden() as hidden:` records; `hidden.events()` says how many there were so far, by new state."""

    def __enter__(self) -> Hidden:
        self._root = Path(tempfile.mkdtemp(prefix="flowlens-tracefs-"))
        subprocess.run(["mount", "-t", "tracefs", "tracefs", self._root], check=True)
        self._instance = self._root / "instances" / f"flowlens-{uuid4().hex[:8]}"
        self._instance.mkdir()
        # By name: such threads come and go.
        names = sorted({path.read_text().strip() for path in Path("/proc/1/task").glob("*/comm")})
        (self._instance / _EVENT / "filter").write_text(" || ".join(f'comm == "{name}"' for name in names))
        (self._instance / _EVENT / "enable").write_text("1")
        return self

    def events(self) -> Counter[str]:
        return Counter(_NEW_STATE.findall((self._instance / "trace").read_text()))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        (self._instance / _EVENT / "enable").write_text("0")
        self._instance.rmdir()
        subprocess.run(["umount", self._root], check=True)
        self._root.rmdir()
