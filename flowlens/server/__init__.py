"""The agent's HTTP endpoint: /metrics, /healthz, /readyz, /status and a page for people at /.

Knows how to listen and nothing of what it shows: that comes from the callables in `Sources`. A scraper
that hangs costs one of a few threads for seconds, never another scraper its answer.

address (where to listen, who holds the port) -> listener (cheroot, with deadlines) <- pages (answers)
"""

from flowlens.server.address import Address, ServerError
from flowlens.server.front_page import Overview, Probe
from flowlens.server.pages import Sources
from flowlens.server.running import Server

__all__ = ["Address", "Overview", "Probe", "Server", "ServerError", "Sources"]
