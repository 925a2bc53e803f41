"""Each verb of the controller's roles is needed: without it, something fails."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml

from tests.controller import rules, world

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[world.World]:
    with world.running(tmp_path_factory.mktemp("world")) as running:
        running.add_nodes("node-1")
        yield running


@pytest.mark.parametrize(("resource", "verb"), list(rules.grants()))
def test_without_a_verb_something_fails_and_the_verb_is_named(
    here: world.World, resource: str, verb: str
) -> None:
    here.server.apply(*rules.manifests(rules.without(resource, verb)))
    here.agents.follow("one", here.apply("one", priority=hash((resource, verb)) % 1000))
    here.agents.follow("one", here.get("one")["metadata"]["generation"])
    try:
        with here.controller(wait=False) as running:
            group_resource = resource.partition("/")[0]
            world.wait_until(
                lambda: any(
                    one["responseStatus"]["code"] == 403
                    and one["verb"] == verb
                    and one["objectRef"]["resource"] == group_resource
                    for one in here.server.requests(rules.ACCOUNT)
                ),
                f"{verb} {resource} is refused",
            )
            world.wait_until(
                lambda: (
                    f'cannot {verb} resource \\"{resource}\\"' in running.words()
                    or f'cannot {verb} resource "{resource}"' in running.words()
                ),
                "it is said",
            )
    finally:
        here.server.apply(*rules.manifests(rules.ALL))
        here.delete("one")


def test_the_rules_in_the_documentation_are_the_ones_proven_here() -> None:
    text = (world.ROOT / "docs" / "controller.md").read_text()
    for resource, verb in rules.grants():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{resource}` |")]
        assert f"`{verb}`" in row


def test_the_chart_grants_exactly_these_rules() -> None:
    text = (world.ROOT / "deploy" / "manifests" / "flow-lens.yaml").read_text()
    roles = [
        one
        for one in yaml.safe_load_all(text)
        if one and one["kind"] in ("Role", "ClusterRole") and "controller" in one["metadata"]["name"]
    ]
    granted = {one["metadata"].get("namespace", ""): one["rules"] for one in roles}
    agents_namespace = next(name for name in granted if name not in ("", "default"))
    assert len(roles) == 3
    assert granted == {
        "": rules.CLUSTER,
        agents_namespace: rules.AGENTS_NAMESPACE,
        "default": rules.DEFAULT_NAMESPACE,
    }
