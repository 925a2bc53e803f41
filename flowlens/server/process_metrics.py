"""The agent's own process: CPU, memory, descriptors, garbage collector, Python version."""

from __future__ import annotations

import functools

import prometheus_client
from prometheus_client import gc_collector, platform_collector, process_collector


@functools.cache
def _registry() -> prometheus_client.CollectorRegistry:
    registry = prometheus_client.CollectorRegistry(auto_describe=False)
    process_collector.ProcessCollector(registry=registry)
    platform_collector.PlatformCollector(registry=registry)
    gc_collector.GCCollector(registry=registry)
    return registry


def text() -> bytes:
    """Their text now."""
    return prometheus_client.generate_latest(_registry())
