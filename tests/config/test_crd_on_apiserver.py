"""The CRD before a real kube-apiserver: what it refuses and says, fills in, shows and explains."""

from __future__ import annotations

import json
import pathlib
import re
from collections.abc import Iterator

import msgspec
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flowlens import config, metrics
from flowlens.config import definitions, schema, status
from tests.config import api_server, refused_specs
from tests.config.test_selection import requirements

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

ROOT = pathlib.Path(__file__).parents[2]
EXAMPLES = sorted(ROOT.joinpath("examples").glob("*.yaml"))
NAME = f"{definitions.PLURAL}.{definitions.GROUP}"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[api_server.ApiServer]:
    with api_server.running(tmp_path_factory.mktemp("apiserver")) as running:
        running.must("apply", "--server-side", "-f", "-", text=schema.files()[schema.CRD_PATHS[0]])
        running.must("wait", "--for=condition=Established", f"crd/{NAME}", "--timeout=30s")
        yield running


def manifest(spec: str, name: str = "x") -> str:
    return json.dumps(
        {
            "apiVersion": config.API_VERSION,
            "kind": config.KIND,
            "metadata": {"name": name},
            "spec": yaml.safe_load(spec),
        }
    )


def test_the_crd_is_established_and_nothing_is_said_against_it(server: api_server.ApiServer) -> None:
    conditions = json.loads(server.must("get", "crd", NAME, "-o", "json"))["status"]["conditions"]
    by_type = {condition["type"]: condition["status"] for condition in conditions}
    assert by_type == {"NamesAccepted": "True", "Established": "True"}


@pytest.mark.parametrize("case", refused_specs.REFUSED, ids=lambda case: case.why)
def test_a_bad_spec_is_refused_by_the_server_with_what_is_allowed(
    server: api_server.ApiServer, case: refused_specs.Refused
) -> None:
    answer = server.kubectl("create", "--dry-run=server", "-f", "-", text=manifest(case.spec))
    assert not answer.ok
    assert case.admission in answer.errors


@pytest.mark.parametrize("name", refused_specs.ACCEPTED)
def test_a_good_spec_is_taken_and_means_the_same_with_the_servers_defaults(
    server: api_server.ApiServer, name: str
) -> None:
    text = refused_specs.ACCEPTED[name]
    made = server.must("create", "--dry-run=server", "-o", "json", "-f", "-", text=manifest(text))
    from_server = config.from_object(json.loads(made)["spec"], source="flc/x")
    from_file = config.load(text, source="-")
    resolved = [config.resolve(spec, name="x", generation=1) for spec in (from_server, from_file)]
    assert resolved[0] == resolved[1]
    assert from_server == from_file


def test_the_server_fills_in_every_default(server: api_server.ApiServer) -> None:
    made = json.loads(server.must("create", "--dry-run=server", "-o", "json", "-f", "-", text=manifest("{}")))
    written = msgspec.json.decode(msgspec.json.encode(config.Spec()))
    assert made["spec"] == written


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_applies(server: api_server.ApiServer, path: pathlib.Path) -> None:
    server.must("apply", "-f", str(path))
    found = json.loads(server.must("get", "flc", path.stem, "-o", "json"))
    assert config.from_object(found["spec"], source=path.stem) == config.load(path.read_text(), source="-")
    server.must("delete", "flc", path.stem)


def test_the_largest_spec_that_the_bounds_allow_is_judged_within_the_servers_budget(
    server: api_server.ApiServer,
) -> None:
    long = "l" * 62
    key = ".".join([long] * 4)[:250] + "/" + long
    selector = {
        "matchLabels": {f"{key[:-2]}{number:02}": "v" * 63 for number in range(32)},
        "matchExpressions": [
            {"key": key, "operator": "In", "values": [f"{'v' * 60}{number}" for number in range(32)]}
        ]
        * 16,
    }
    pod_labels = [f"p{number}/{long}" for number in range(8)]
    labels = [*definitions.COMMON_LABELS, *map(config.pod_label, pod_labels)]
    spec = {
        "nodeSelector": selector,
        "podSelector": selector,
        "namespaces": {
            "include": [f"*a{number}*{'b' * 50}-{number}" for number in range(32)],
            "exclude": [f"?c*{'d' * 50}-{number}" for number in range(32)],
        },
        "podLabels": pod_labels,
        "defaults": {"labels": labels},
        "metrics": [
            {
                "name": metric.name,
                "labels": [*labels, *(label for label in metric.labels if label not in labels)],
                **({"buckets": [*range(1, 33)]} if metric.buckets else {}),
            }
            for metric in metrics.CATALOGUE
        ],
        "ports": {
            "include": [f"{number}-{number + 9}" for number in range(10000, 10320, 20)],
            "exclude": [f"{number}-{number + 9}" for number in range(10010, 10330, 20)],
        },
    }
    config.from_object(spec, source="largest")
    server.must("create", "--dry-run=server", "-f", "-", text=manifest(json.dumps(spec)))


def test_every_field_is_explained(server: api_server.ApiServer) -> None:
    def walk(field: str) -> Iterator[str]:
        text = server.must("explain", field)
        yield text
        for name, kind in re.findall(r"^  (\w+)\t<(.*?)>", text, re.MULTILINE):
            if "Object" in kind and not name.startswith("metadata"):
                yield from walk(f"{field}.{name}")

    texts = list(walk("flc"))
    assert len(texts) > 15
    for text in texts:
        assert "<no description>" not in text.partition("metadata\t")[0]
    names = server.must("explain", "flc.spec.metrics.name")
    assert "connect_failures" in names
    assert "ebpf_tcp_connect_failures_total" in " ".join(names.split())


def test_short_name_category_and_columns(server: api_server.ApiServer) -> None:
    server.must("create", "-f", "-", text=manifest("priority: 7", "columns"))
    counts = status.NodeCounts(matched=5, applied=3, pending=1, failed=1, unreachable=0)
    _write_status(server, "columns", status.Status(observed_generation=1, nodes=counts, series=1234))
    try:
        lines = server.must("get", "flc", "columns").splitlines()
        assert lines[0].split() == ["NAME", "PRIORITY", "MATCHED", "APPLIED", "FAILED", "SERIES", "AGE"]
        assert lines[1].split()[:6] == ["columns", "7", "5", "3", "1", "1234"]
        assert "columns" in server.must("get", "flow-lens")
        assert (
            server.must("get", "flowlensconfig", "columns", "-o", "wide")
            .splitlines()[0]
            .endswith("UNREACHABLE")
        )
    finally:
        server.must("delete", "flc", "columns")


def _write_status(server: api_server.ApiServer, name: str, written: status.Status) -> api_server.Answer:
    patch = json.dumps({"status": msgspec.to_builtins(written)})
    return server.kubectl("patch", "flc", name, "--subresource=status", "--type=merge", "-p", patch)


CONDITION = status.Condition(
    type="Applied",
    status="True",
    reason="AllNodesApplied",
    message="All 5 nodes run generation 1.",
    last_transition_time="2026-11-25T10:00:00Z",
    observed_generation=1,
)


def test_status_is_written_through_its_subresource_only_and_keeps_the_generation(
    server: api_server.ApiServer,
) -> None:
    text = json.loads(manifest("{}", "status")) | {"status": {"series": 9}}
    server.must("create", "-f", "-", text=json.dumps(text))
    try:
        assert "status" not in json.loads(server.must("get", "flc", "status", "-o", "json"))
        failure = status.Failure(reason="NoBtf", message="kernel has no BTF", nodes=2, examples=("n1", "n2"))
        written = status.Status(
            observed_generation=1,
            conditions=(CONDITION,),
            nodes=status.NodeCounts(matched=5, applied=5),
            failures=(failure,),
        )
        assert _write_status(server, "status", written).ok
        found = json.loads(server.must("get", "flc", "status", "-o", "json"))
        assert msgspec.convert(found["status"], status.Status) == written
        assert found["metadata"]["generation"] == 1
    finally:
        server.must("delete", "flc", "status")


def test_a_status_beyond_its_bounds_is_refused(server: api_server.ApiServer) -> None:
    server.must("create", "-f", "-", text=manifest("{}", "bounds"))
    try:
        many = tuple(status.Failure(reason=f"R{number}") for number in range(status.MAX_FAILURES + 1))
        assert not _write_status(server, "bounds", status.Status(failures=many)).ok
        twice = (CONDITION, CONDITION)
        assert not _write_status(server, "bounds", status.Status(conditions=twice)).ok
    finally:
        server.must("delete", "flc", "bounds")


port_entries = st.lists(
    st.integers(1, 40)
    | st.tuples(st.integers(1, 40), st.integers(0, 9)).map(lambda pair: f"{pair[0]}-{sum(pair)}"),
    max_size=3,
)
sides = st.fixed_dictionaries({"include": port_entries, "exclude": port_entries})
patterns = st.lists(st.text(alphabet="ab*?", min_size=1, max_size=4), max_size=3)
name_lists = st.fixed_dictionaries({"include": patterns, "exclude": patterns})
pod_label_keys = st.lists(st.text(alphabet="aB._-", min_size=1, max_size=4), max_size=3)


@given(st.fixed_dictionaries({"ports": sides, "namespaces": name_lists, "podLabels": pod_label_keys}))
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_rules_in_cel_and_in_python_refuse_the_same_specs(
    server: api_server.ApiServer, spec: dict[str, object]
) -> None:
    text = manifest(json.dumps(spec))
    answer = server.kubectl("create", "--dry-run=server", "-f", "-", text=text)
    theirs = {field for field in spec if f"spec.{field}" in answer.errors}
    assert answer.ok is not bool(theirs), answer.errors
    try:
        config.from_object(spec, source="flc/x")
        ours = set()
    except config.ConfigError as error:
        ours = {re.split(r"[.\[]", problem.path)[1] for problem in error.problems}
    assert ours == theirs, answer.errors


KUBECTL_OPERATORS = {"In": "in", "NotIn": "notin"}


def kubectl_selector(requirement: config.Requirement) -> str:
    """A requirement in kubectl's notation (k8s.io/apimachinery's label selectors)."""
    key, values = requirement.key, ",".join(requirement.values)
    match requirement.operator:
        case "Exists":
            return key
        case "DoesNotExist":
            return f"!{key}"
        case "Gt":
            return f"{key}>{values}"
        case "Lt":
            return f"{key}<{values}"
        case operator:
            return f"{key} {KUBECTL_OPERATORS[operator]} ({values})"


@pytest.fixture(scope="module")
def labelled(server: api_server.ApiServer) -> dict[str, dict[str, str]]:
    """Objects with many label sets, by name."""
    sets = [{"a": a, "b": b} for a in ("x", "1", "2", "10") for b in ("x", "y")]
    sets += [{}, {"a": "x"}, {"c": "10"}, {"a": "", "c": "y"}, {"b": "1", "c": "2"}]
    by_name = {f"set{number}": labels for number, labels in enumerate(sets)}
    items = [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "labels": labels}}
        for name, labels in by_name.items()
    ]
    server.must("create", "-f", "-", text=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    return by_name


@given(requirements)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_selectors_select_what_the_api_server_selects(
    server: api_server.ApiServer, labelled: dict[str, dict[str, str]], requirement: config.Requirement
) -> None:
    listed = server.must("get", "configmaps", "-o", "name", "-l", kubectl_selector(requirement)).split()
    theirs = {name.removeprefix("configmap/") for name in listed} & labelled.keys()
    selector = config.Selector(match_expressions=(requirement,))
    ours = {name for name, labels in labelled.items() if config.matches(selector, labels)}
    assert ours == theirs
