"""cheroot, taught patience with nobody: few threads, and a deadline for whatever waits on a client.

As it comes, cheroot hands a new connection to a thread before it has said anything, shakes hands for
TLS in the accepting thread, and lets one slow reader keep a thread for as long as bytes trickle. Here a
connection gets a thread when there is something to read; a thread that waits on its client is freed
after a deadline, and after a second if others are waiting for a thread.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from typing import Any

from flowlens.server.library import connections, server, threadpool

log = logging.getLogger(__name__)

IDLE_SECONDS = 10
"""A connection that says nothing is closed after this; so is a socket operation that makes no progress."""
CLIENT_SECONDS = 15.0
"""A request must have come, and an answer be taken, within this. Prometheus' scrape timeout is 10 s."""
GRACE_SECONDS = 1.0
"""As long as the slowest client may keep a thread while others wait for one."""
TICK_SECONDS, IDLE_TICK_SECONDS = 0.25, 5.0
"""How often clients are looked at: while a thread serves one, and while none does."""
MAX_PARKED = 64
"""Connections without a thread; one more, and the one that is idle longest is closed."""
MAX_QUEUED = 64
MAX_HEADER_BYTES = 16 * 1024
MAX_BODY_BYTES = 1024
STOP_SECONDS = 0.2


class Connection(server.HTTPConnection):
    """`waiting_since`: monotonic second since when a thread waits on this client; None: it does not."""

    waiting_since: float | None = None

    def communicate(self) -> bool:
        """Reads a request and answers it, under the eyes of the watchdog."""
        self.waiting_since = time.monotonic()
        try:
            return bool(super().communicate())  # type: ignore[no-untyped-call]
        finally:
            self.waiting_since = None
            with self.server.busy_lock:
                self.server.busy.discard(self)

    def cut(self) -> None:
        """Ends the connection under the thread that waits on it."""
        try:
            socket.socket.shutdown(
                self.socket, socket.SHUT_RDWR
            )  # not SSLSocket's: it would drop the TLS state
        except OSError:
            log.debug("connection was gone before it could be cut")


class Connections(connections.ConnectionManager):
    """Connections without a thread: new ones until they say something, kept ones until they do again.

    Underscored names are cheroot's (11.1): the tests with hanging clients fail if they change.
    """

    _selector: Any

    def __init__(self, serving: Listener) -> None:
        super().__init__(serving)
        self._select = self._selector.select
        self._selector.select = self._wait

    def _wait(self, timeout: float) -> Any:
        """Sleeps long when there is nobody to watch: an agent that is not scraped is idle."""
        return self._select(timeout=timeout if self.server.busy else IDLE_TICK_SECONDS)

    def _from_server_socket(self, server_socket: socket.socket) -> None:
        try:
            connection = super()._from_server_socket(server_socket)  # type: ignore[misc]
        except OSError as error:  # out of descriptors, for one: let others close theirs
            if not self.server.ready:
                return
            log.warning("cannot accept a connection: %s", error)
            time.sleep(TICK_SECONDS / 5)
            return
        if connection is not None:
            self._make_room()
            self.put(connection)

    def end(self) -> None:
        """Stops waiting, at once: a listening socket that is shut down wakes who waits on it."""
        self._stop_requested = True
        with contextlib.suppress(OSError):
            self.server.socket.shutdown(socket.SHUT_RDWR)
        self.stop()

    def _make_room(self) -> None:
        parked = [
            (each.last_used, fd, each) for fd, each in self._selector.connections if each is not self.server
        ]
        if len(parked) >= MAX_PARKED:
            _, descriptor, oldest = min(parked, key=lambda entry: entry[0])
            self._selector.unregister(descriptor)
            oldest.close()

    def _expire(self, threshold: float) -> None:
        super()._expire(threshold)  # type: ignore[misc]
        self.server.watch()


class Pool(threadpool.ThreadPool):
    """Threads that end with the process, even if one is stuck; started without waiting for each."""

    _threads: list[threading.Thread]

    def grow(self, amount: int) -> None:
        """Starts threads."""
        for _ in range(amount):
            worker = threadpool.WorkerThread(self.server)  # type: ignore[no-untyped-call]
            worker.name, worker.daemon = f"http-{len(self._threads)}", True
            worker.start()
            self._threads.append(worker)


class Listener(server.HTTPServer):
    """`busy`: connections that have a thread now, or stand in line for one."""

    ConnectionClass = Connection
    timeout = IDLE_SECONDS
    max_request_header_size = MAX_HEADER_BYTES
    max_request_body_size = MAX_BODY_BYTES
    keep_alive_conn_limit = MAX_PARKED

    def __init__(self, listening: socket.socket, gateway: type[server.Gateway], threads: int) -> None:
        super().__init__(listening.getsockname()[:2], gateway, minthreads=threads, maxthreads=threads)
        self.requests = Pool(self, min=threads, max=threads)
        self.server_name = "flow-lens"
        self.socket = listening
        self.busy: set[Connection] = set()
        self.busy_lock = threading.Lock()

    def prepare(self) -> None:
        """Starts the threads; the socket listens already."""
        self.socket.settimeout(TICK_SECONDS)
        self._connections = Connections(self)
        self.requests.start()
        self.ready = True

    def serve(self) -> None:
        """Accepts until `stop`."""
        while self.ready:
            try:
                self._connections.run(TICK_SECONDS)
            except Exception:  # the thread's outermost loop
                log.exception("endpoint: error while waiting for connections; going on")
                time.sleep(TICK_SECONDS)

    def process_conn(self, conn: Connection) -> None:
        """Gives a connection to the next free thread; there is no line without end for that."""
        if self.requests.qsize >= MAX_QUEUED:
            conn.close()
            return
        with self.busy_lock:
            self.busy.add(conn)
        self.requests.put(conn)

    def watch(self) -> None:
        """Frees threads from clients that took too long."""
        now = time.monotonic()
        with self.busy_lock:
            waits = [(each.waiting_since, each) for each in self.busy]
        patient = sorted(
            ((since, each) for since, each in waits if since is not None), key=lambda wait: wait[0]
        )
        spare = self.requests.qsize if self.requests.idle == 0 else 0
        for place, (since, each) in enumerate(patient):
            if now - since > (GRACE_SECONDS if place < spare else CLIENT_SECONDS):
                each.cut()

    def stop(self) -> None:
        """Ends within a second, whatever clients do; a thread stuck in a page ends with the process."""
        if not self.ready:
            return
        self.ready = False
        self._connections.end()
        self.socket.close()
        self._connections.close()
        with self.busy_lock:
            busy = [each for each in self.busy if each.waiting_since is not None]
        for each in busy:
            each.cut()
        ending = threading.Thread(target=self.requests.stop, args=(STOP_SECONDS,), daemon=True)
        ending.start()
        ending.join(2 * STOP_SECONDS)

    def error_log(self, msg: str = "", level: int = 20, traceback: bool = False) -> None:  # noqa: ARG002
        """cheroot's messages are about single clients."""
        log.debug("%s", msg, exc_info=traceback)
