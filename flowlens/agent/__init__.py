"""The node's composition root: it decides when things happen and in which thread.

Who owns what:
- `observer.Observer` owns tracer, identity and ledger behind one lock; whoever calls it holds the lock meanwhile:
  server threads when somebody scrapes, the worker for ticks and new settings.
- the worker thread owns the intent (which configuration should hold) and is the only one that changes it.
- threads of `kube` own their snapshots and hand them over by one assignment; they wake the worker.
- the main thread starts everything, waits for a signal, and ends everything.
Others read `status`, an immutable snapshot swapped by one assignment.
"""

from flowlens.agent.errors import StartError
from flowlens.agent.options import Options
from flowlens.agent.running import run

__all__ = ["Options", "StartError", "run"]
