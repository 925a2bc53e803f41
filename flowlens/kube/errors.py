"""Everything that can go wrong between us and Kubernetes, told apart by what the caller must do.

KubeError
    Temporary               try again after a while: 5xx, 429, timeouts, broken connections
    Refused                 it answered, and will say the same until somebody changes something
        Unauthorized            401: it does not know us
        Forbidden               403: it knows us, RBAC says no
        NotFound                404: no such path, for example a CRD that is not installed
        Unexpected              any other answer that makes no sense here
    Gone                    410: this resourceVersion is too old, list again
    CertificateNotVerified  its certificate is not signed by the CA that we were given
    NoAccess                we do not even know whom to ask: not in a cluster, unusable kubeconfig
    Stopped                 the client was closed by its owner while it was at work
"""

from __future__ import annotations


class KubeError(Exception):
    """Base of all errors of this room."""


class Temporary(KubeError):
    """Worth another try. `status` is the HTTP status, 0 when there was no answer at all."""

    def __init__(self, message: str, *, status: int = 0, retry_after_seconds: float = 0.0) -> None:
        super().__init__(message)
        self.status = status
        self.retry_after_seconds = retry_after_seconds


class Refused(KubeError):
    """A definite no."""


class Unauthorized(Refused):
    """401."""


class Forbidden(Refused):
    """403."""


class NotFound(Refused):
    """404."""


class Unexpected(Refused):
    """An answer that we cannot use: another 4xx, a redirect, a body that is not what was asked for."""


class Gone(KubeError):
    """410, as a status or as an ERROR event within a watch."""


class CertificateNotVerified(KubeError):
    """TLS worked, trust did not."""


class NoAccess(KubeError):
    """The settings, the service account folder or the kubeconfig name nobody that we can ask."""


class Stopped(KubeError):
    """Not an error of Kubernetes: the owner of the client ended it."""


_REMEDY = {
    401: "the token or client certificate is not accepted (expired, or of another cluster): "
    "check the service account token or the kubeconfig",
    403: "grant the verb in the agent's ClusterRole",
    404: "the path is not served: is the CRD installed, is the API version right?",
    410: "the resource version is too old: list again",
}


def of_status(status: int, where: str, reason: str = "", *, retry_after_seconds: float = 0.0) -> KubeError:
    """The error for an HTTP status (or the code of a Status object). `where` says what was asked of whom."""
    said = f": {reason}" if reason else ""
    remedy = f"; {_REMEDY[status]}" if status in _REMEDY else ""
    message = f"{where} answered {status}{said}{remedy}"
    if status == 429 or status >= 500:
        return Temporary(message, status=status, retry_after_seconds=retry_after_seconds)
    kinds: dict[int, type[KubeError]] = {401: Unauthorized, 403: Forbidden, 404: NotFound, 410: Gone}
    return kinds.get(status, Unexpected)(message)
