"""The cluster's side of a FlowLensConfig: what became of it on the nodes, written into its status.

Not in the data path: agents watch the objects themselves, and go on doing so while no controller
runs. It reads the agents' /status and writes to Kubernetes: one bounded status per object, and
Events. The only room that may import kopf and aiohttp.

    watching    kopf: FlowLensConfigs, events only
    mirror      nodes and EndpointSlices, by pages and partial objects
    finding     EndpointSlices -> which agent is whose
    visiting    asks agents how they are
    judgement, wording    objects + nodes + answers -> status; pure
    writing, announcing   when and what is sent to the API server
    running     the order of all that
"""

from flowlens.controller.options import ControllerError, EndedError, Options, StartError
from flowlens.controller.running import run

__all__ = ["ControllerError", "EndedError", "Options", "StartError", "run"]
