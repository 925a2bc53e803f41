"""What a FlowLensConfig means: definitions, validation, precedence, selectors, words.

Pure: no file, no kernel, no network. The agent and the controller use the same functions. Only
`schema` writes files, when it is run by hand.

    load, from_object    text or API object -> Spec, or ConfigError with every problem
    resolve              Spec -> NodeConfig, with nothing left to interpret
    choose               which object a node follows
    selects, matches     which workloads are measured
    explain              Spec -> words for a person
"""

from flowlens.config.definitions import API_VERSION, GROUP, KIND, PLURAL, VERSION, Spec
from flowlens.config.explanation import explain
from flowlens.config.notation import duration_seconds, duration_text, pod_label
from flowlens.config.problems import ConfigError, Problem
from flowlens.config.resolution import MetricConfig, NodeConfig, PortRange, default_config, resolve
from flowlens.config.selection import Candidate, choose, selects
from flowlens.config.selectors import Requirement, Selector, matches
from flowlens.config.validation import from_object, load

__all__ = [
    "API_VERSION",
    "GROUP",
    "KIND",
    "PLURAL",
    "VERSION",
    "Candidate",
    "ConfigError",
    "MetricConfig",
    "NodeConfig",
    "PortRange",
    "Problem",
    "Requirement",
    "Selector",
    "Spec",
    "choose",
    "default_config",
    "duration_seconds",
    "duration_text",
    "explain",
    "from_object",
    "load",
    "matches",
    "pod_label",
    "resolve",
    "selects",
]
