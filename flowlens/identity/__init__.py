"""Who owns a (cgroup, network namespace, pid): joins host facts and pods into a Workload.

What cannot be named has a cause; nothing is dropped in silence. Knows no metric, no map and no HTTP:
pods come through the `PodSource` protocol, which `kube` satisfies without importing us.

naming, pods (what is known of pods), cgroups (which id is which path), members (who is in a
network namespace) -> attribution (the Identity that the agent asks). Not thread-safe.
"""

from flowlens.identity.attribution import Identity
from flowlens.identity.counters import Counters
from flowlens.identity.naming import Cause, Owner, Workload
from flowlens.identity.pods import PodInfo, PodSource

__all__ = ["Cause", "Counters", "Identity", "Owner", "PodInfo", "PodSource", "Workload"]
