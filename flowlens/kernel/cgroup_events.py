"""The ring in which the kernel side announces each new cgroup (rare events; never one per connection)."""

from __future__ import annotations

import ctypes
from typing import Any

from flowlens.kernel import layout, libbpf


class CgroupEvents:
    """`fd` becomes readable when there is something; `drain` returns it. Not thread-safe."""

    def __init__(self, map_fd: int) -> None:
        self._received: list[tuple[int, str]] = []
        self._callback = libbpf.RingCallback(self._receive)  # ctypes does not keep it alive for us
        self._ring = libbpf.ring_buffer(map_fd, self._callback)
        self.fd = int(libbpf.library().ring_buffer__epoll_fd(self._ring))

    def _receive(self, _context: Any, data: Any, size: int) -> int:
        raw = ctypes.string_at(data, size)
        (cgroup,) = layout.CGROUP_ID.unpack_from(raw)
        path = raw[layout.CGROUP_ID.size :].split(b"\0", 1)[0]
        self._received.append((cgroup, path.decode(errors="surrogateescape")))
        return 0

    def drain(self) -> list[tuple[int, str]]:
        """(cgroup id, path relative to the hierarchy's root) of every cgroup made since the last call."""
        libbpf.check(libbpf.library().ring_buffer__consume(self._ring), "read ring buffer")
        received, self._received = self._received, []
        return received

    def close(self) -> None:
        """Frees the ring; the map's file descriptor is not ours."""
        libbpf.library().ring_buffer__free(self._ring)
