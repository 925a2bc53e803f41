"""pytest plugin: the session fixture `cluster`, and what a test marked `cluster` may rely on.

A cluster that a person brought up is used and left alone. One that the tests brought up goes
with the session; with FLOWLENS_CLUSTER=keep it stays for the next run. In CI a missing part
is a failure: a skipped cluster test would be a green lie.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

from tests.testbed import cluster as testbed
from tests.testbed import lifecycle, plan, requirements

# The first test that asks for the cluster pays for a cold build of Kubernetes as well.
FIRST_TEST_SECONDS = 45 * 60


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "cluster: needs the Kubernetes testbed (tests/testbed)")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give cluster tests a time limit that includes the fixture, unless they name their own."""
    for item in items:
        if item.get_closest_marker("cluster") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(FIRST_TEST_SECONDS))


def keep() -> bool:
    return os.environ.get("FLOWLENS_CLUSTER") == "keep"


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


@contextmanager
def shown(config: pytest.Config) -> Iterator[None]:
    """Let progress be seen: pytest would show the first build's only after it is over."""
    capture = config.pluginmanager.getplugin("capturemanager")
    with capture.global_and_fixture_disabled() if capture else nullcontext():
        yield


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[testbed.Cluster]:
    """A Kubernetes cluster of two nodes at least, shared by all tests of the session."""
    try:
        requirements.check()
    except requirements.RequirementsError as error:
        if in_ci():
            pytest.fail(str(error))
        pytest.skip(str(error))
    found = lifecycle.running()
    if found is not None and not found.for_tests:
        if found.node_count < 2:
            pytest.fail("the running cluster has one node, the tests need two: up --nodes 2")
        yield testbed.Cluster(found)
        return
    if found is not None and not keep():
        lifecycle.down()  # left by a test run that was killed: its objects are unknown
    with shown(request.config):
        made = lifecycle.up(plan.Plan(for_tests=True))
    yield made
    if not keep():
        lifecycle.down()
