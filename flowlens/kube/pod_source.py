"""Names this node's pods: from the kubelet, or from the API server where the kubelet will not answer.

The kubelet knows a pod before anybody else does and costs the API server nothing, so it is asked
first: every ten seconds, and at once when somebody saw a pod that has no name yet. Where its
certificate does not verify, or it answers 401 or 403, or it cannot be reached, a list and watch of
this node's own pods takes over; the kubelet is tried again now and then.

Threads: the source's own thread owns the roster and the choice; the watcher's thread only hands
over snapshots; `lookup` and the like may be called by any thread and read one assigned snapshot.
"""

from __future__ import annotations

import dataclasses
import enum
import logging
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from flowlens.kube import access, backoff, client, errors, objects, pods, rate, roster, watcher

logger = logging.getLogger(__name__)


class Source(enum.StrEnum):
    """Whom to ask: `identity.source` in the chart."""

    AUTO = "auto"
    KUBELET = "kubelet"
    APISERVER = "apiserver"


@dataclass(frozen=True, slots=True)
class Settings:
    """Who we are and whom we ask. `kubelet_ca` is the PEM file of the CA that signed the kubelet's
    certificate, where that is not the cluster's."""

    node_name: str
    node_ip: str
    source: Source = Source.AUTO
    kubelet_port: int = 10250
    kubelet_ca: Path | None = None
    kubelet_verify: bool = True


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds. Wished-for refreshes share a token bucket with the regular ones.

    `unreachable`: a kubelet that gave no answer for so long is replaced by the API server.
    `again`: until a kubelet that was replaced is tried again; `unaided`: the same while the API
    server does not answer either (a kubelet cannot check our token then, and says 401).
    """

    regular: float = 10.0
    apart: float = 0.2
    refreshes_per_second: float = 1.0
    burst: int = 5
    unreachable: float = 30.0
    again: float = 300.0
    unaided: float = 10.0


@dataclass(frozen=True, slots=True)
class SourceState:
    """How the names come in, for /status. Times are Unix seconds, 0 for never."""

    using: str = ""
    """`kubelet` or `apiserver`; "" before the first answer."""
    pods: int = 0
    last_success_seconds: float = 0.0
    kubelet_requests: int = 0
    unreadable: int = 0
    last_error: str = ""
    """Why the kubelet is not used, or does not answer now; "" while all is well."""
    watch: watcher.WatchState | None = None


class PodSource:
    """Keeps the names of this node's pods, present and recently gone."""

    def __init__(self, api: access.Access, settings: Settings, *, pace: Pace | None = None) -> None:
        self._api = api
        self._settings = settings
        self._pace = pace or Pace()
        self._names = roster.NOBODY
        self._ready = threading.Event()
        self._roster = roster.Roster()
        self._state = SourceState()
        self._kubelet = self._kubelet_client()
        self._bucket = rate.TokenBucket(self._pace.refreshes_per_second, self._pace.burst, self._pace.apart)
        self._backoff = backoff.Backoff(0.5, self._pace.regular)
        self._ask_at = time.monotonic()
        self._answered_at = time.monotonic()
        self._distrusted = False
        self._watch: watcher.Watcher[pods.Pod] | None = None
        self._watched: watcher.Snapshot[pods.Pod] | None = None
        self._wanted = False
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="pod source", daemon=True)

    # --- for any thread -------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether there was a first answer."""
        return self._ready.is_set()

    @property
    def names(self) -> roster.Names:
        """All names at this moment."""
        return self._names

    @property
    def state(self) -> SourceState:
        """How it goes."""
        watch = self._watch
        return dataclasses.replace(self._state, watch=watch.state if watch else None)

    def lookup(self, pod_uid: str) -> pods.PodInfo | None:
        """The pod of a uid, as it stands in cgroup paths (with dashes, but for static pods)."""
        return self._names.pods.get(pod_uid)

    def container_name(self, container_id: str) -> str | None:
        """The name of a container by its full id."""
        return self._names.containers.get(container_id)

    def request_refresh(self) -> None:
        """Somebody saw a pod that has no name: ask soon (at once, within the rate limit)."""
        self._wanted = True
        self._wake.set()

    def wait_ready(self, seconds: float) -> bool:
        """Waits for the first answer; False if it did not come in time."""
        return self._ready.wait(seconds)

    def start(self) -> None:
        """Begins to ask."""
        self._thread.start()

    def stop(self, wait_seconds: float = 1.0) -> None:
        """Ends both threads, wherever they wait."""
        self._stop.set()
        self._wake.set()
        if self._kubelet is not None:
            self._kubelet.close()
        if self._thread.is_alive():
            self._thread.join(wait_seconds)

    @property
    def running(self) -> bool:
        """Whether one of its threads lives."""
        watch = self._watch
        return self._thread.is_alive() or (watch is not None and watch.running)

    # --- the source's own thread ----------------------------------------------------------------

    def _kubelet_client(self) -> client.Client | None:
        chosen = self._settings
        if chosen.source is Source.APISERVER:
            return None
        if not chosen.node_ip:
            if chosen.source is Source.KUBELET:
                raise errors.NoAccess(
                    "the kubelet cannot be asked without this node's address: set it from status.hostIP"
                )
            logger.warning("this node's address is not known: pods come from the API server")
            return None
        server = access.kubelet(
            self._api,
            chosen.node_ip,
            port=chosen.kubelet_port,
            ca=chosen.kubelet_ca,
            verify=chosen.kubelet_verify,
        )
        return client.Client(server)

    def _run(self) -> None:
        if self._kubelet is None:
            self._start_watch()
        while not self._stop.is_set():
            try:
                wait = self._round()
            except errors.Stopped:
                break
            except Exception as problem:
                logger.exception("naming pods failed")
                self._note(last_error=f"{type(problem).__name__}: {problem}")
                wait = self._pace.regular
            self._wake.wait(wait)
            self._wake.clear()
        self._stop_watch()

    def _round(self) -> float | None:
        """Does what is due. Returns the seconds until something is due again, None for never."""
        watched, self._watched = self._watched, None
        if watched is not None:
            self._take([pods.info(pod) for pod in watched.values()], Source.APISERVER)
        if self._kubelet is None:
            return None
        wait = self._due_seconds()
        if wait > 0:
            return wait
        self._ask(self._kubelet)
        return max(0.0, self._due_seconds())

    def _due_seconds(self) -> float:
        """Until the kubelet is to be asked: the regular time, or sooner if somebody wants it."""
        now = time.monotonic()
        if self._watch is not None:
            return self._ask_at - now
        regular = self._ask_at - now
        return min(regular, self._bucket.wait_seconds(now)) if self._wanted else regular

    def _ask(self, kubelet: client.Client) -> None:
        self._wanted = False
        self._bucket.take(time.monotonic())
        self._note(kubelet_requests=self._state.kubelet_requests + 1)
        try:
            found, unreadable = pods.decode(kubelet.get("/pods"), kubelet.server.url)
        except errors.Stopped:
            raise
        except errors.Temporary as problem:
            self._unreachable(problem)
        except errors.KubeError as problem:
            self._refused(problem)
        else:
            self._answered(found, unreadable)

    def _answered(self, found: list[pods.PodInfo], unreadable: int) -> None:
        self._backoff.succeeded()
        self._distrusted = False
        self._answered_at = time.monotonic()
        self._ask_at = self._answered_at + self._pace.regular
        self._stop_watch()
        self._take(found, Source.KUBELET)
        self._note(last_error="", unreadable=self._state.unreadable + unreadable)

    def _unreachable(self, problem: errors.Temporary) -> None:
        """Most likely it restarts: what we know stays right for a while."""
        now = time.monotonic()
        if now - self._answered_at >= self._pace.unreachable and self._settings.source is Source.AUTO:
            self._fall_back(problem)
            return
        self._complain(problem)
        self._ask_at = now + self._backoff.wait_seconds(problem.retry_after_seconds)

    def _refused(self, problem: errors.KubeError) -> None:
        if isinstance(problem, errors.Unauthorized) and not self._distrusted:
            # The token may just have been replaced; the client reads it again for the next request.
            self._distrusted = True
            self._ask_at = time.monotonic() + self._pace.apart
        elif self._settings.source is Source.AUTO:
            self._fall_back(problem)
        else:
            self._complain(problem)
            self._ask_at = time.monotonic() + self._pace.unaided

    def _fall_back(self, problem: errors.KubeError) -> None:
        self._complain(problem)
        if self._watch is None:
            self._start_watch()
        aided = self._watch is not None and self._watch.state.connected
        self._ask_at = time.monotonic() + (self._pace.again if aided else self._pace.unaided)

    def _start_watch(self) -> None:
        self._watch = watcher.Watcher(
            self._api, objects.pods_of_node(self._settings.node_name), pods.Pod, self._hand_over
        )
        self._watch.start()

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
            self._watched = None

    def _hand_over(self, snapshot: watcher.Snapshot[pods.Pod]) -> None:
        """Called by the watcher's thread."""
        self._watched = snapshot
        self._wake.set()

    def _take(self, found: list[pods.PodInfo], source: Source) -> None:
        self._names = self._roster.replace(found, time.monotonic())
        if self._state.using != source:
            logger.info("pods of this node come from the %s (%d pods)", source, len(found))
        self._note(using=str(source), pods=self._names.present, last_success_seconds=time.time())
        self._ready.set()

    def _complain(self, problem: errors.KubeError) -> None:
        """Said once per change: by what it is, since messages of broken connections vary."""
        if not self._state.last_error:
            logger.warning("kubelet not used: %s", problem)
        self._note(last_error=str(problem))

    def _note(self, **changes: object) -> None:
        self._state = dataclasses.replace(self._state, **changes)  # type: ignore[arg-type]
