"""Traffic that goes on until a test has seen enough; runs inside of a pod's process."""

from __future__ import annotations

import socket
import time
from pathlib import Path


def stream(address: str, port: int, stop: str, most_seconds: float = 60.0) -> int:
    """One connection after the other to a server of this process, until the file `stop` exists. How many."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    file, end, count = Path(stop), time.monotonic() + most_seconds, 0
    with socket.create_server((address, port), family=family, backlog=128) as server:
        while time.monotonic() < end:
            with socket.create_connection((address, port), timeout=10) as client:
                accepted, _ = server.accept()
                with accepted:
                    client.sendall(b"x")
                    client.shutdown(socket.SHUT_WR)
                    while accepted.recv(4096):
                        pass
            count += 1
            if count % 20 == 0:
                if file.exists():
                    return count
                time.sleep(0.005)  # what is measured is the agent, not a busy loop beside it
    raise AssertionError(f"nobody stopped the traffic within {most_seconds} s")
