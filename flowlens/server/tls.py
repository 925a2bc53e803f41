"""TLS as the listener needs it: the handshake under the watchdog's eyes, certificates that may be renewed.

Imported only where a certificate is given: OpenSSL is 4 MiB of memory on every node (measured).
"""

from __future__ import annotations

import logging
import os
import socket
import ssl
from pathlib import Path
from typing import Any

from cheroot import makefile
from cheroot import ssl as cheroot_ssl

log = logging.getLogger(__name__)


class LateHandshake(cheroot_ssl.Adapter):
    """TLS whose handshake is made by the thread that reads the request; certificates may be renewed."""

    def __init__(self, certificate: Path, key: Path) -> None:
        super().__init__(str(certificate), str(key))
        self._files = (certificate, key)
        self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.context.load_cert_chain(certificate, key)
        self._loaded = self._stamps()

    def _stamps(self) -> list[int]:
        return [os.stat(file).st_mtime_ns for file in self._files]

    def _renew(self) -> None:
        try:
            stamps = self._stamps()
            if stamps != self._loaded:
                self._loaded = stamps
                self.context.load_cert_chain(*self._files)
        except OSError as error:  # half written: the old one serves on, the next connection looks again
            self._loaded = []
            log.debug("certificate cannot be read: %s", error)

    def bind(self, sock: socket.socket) -> socket.socket:
        """The listening socket stays a plain one."""
        return sock

    def wrap(self, sock: socket.socket) -> tuple[socket.socket, dict[str, str]]:
        """A connection that will shake hands at its first read."""
        self._renew()
        return self.context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False), {}

    def get_environ(self) -> dict[str, str]:
        """Nobody reads one."""
        return {}

    def makefile(self, sock: socket.socket, mode: str = "r", bufsize: int = -1) -> Any:
        """cheroot's own reader or writer."""
        return makefile.MakeFile(sock, mode, bufsize)
