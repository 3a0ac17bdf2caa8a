"""Profiles from a KubeSchedulerConfiguration: what differs from the default, and what is refused."""

import random

import pytest

from orchestrator.base.errors import StartupError
from orchestrator.scheduler.configuration import profiles_from
from orchestrator.scheduler.decide import Decider
from orchestrator.scheduler.profiles import FILTERS, WEIGHTS, Profile, plugins_of
from orchestrator.scheduler.rules.columns import Columns

HEAD = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n"
PACKED = """profiles:
- schedulerName: packed
  plugins:
    score:
      disabled: [{name: ImageLocality}, {name: PodTopologySpread}]
      enabled: [{name: NodeResourcesFit, weight: 5}]
    multiPoint:
      disabled: [{name: NodePorts}]
  pluginConfig:
  - name: NodeResourcesFit
    args: {scoringStrategy: {type: MostAllocated, resources: [{name: cpu, weight: 1}]}}
- schedulerName: default-scheduler
"""


def read(tmp_path, text):
    file = tmp_path / "scheduler.yaml"
    file.write_text(HEAD + text)
    return profiles_from(str(file))


def test_a_profile_says_what_differs(tmp_path):
    packed, default = map(plugins_of, read(tmp_path, PACKED))
    assert {rule.name for rule in default.filters} - {rule.name for rule in packed.filters} == {"NodePorts"}
    assert {rule.name: rule.weight for rule in packed.scores} == {
        "TaintToleration": 3, "NodeAffinity": 2, "NodeResourcesFit": 5, "InterPodAffinity": 2,
        "NodeResourcesBalancedAllocation": 1,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("plugins", "filters", "scores"),
    [
        ("filter: {disabled: [{name: TaintToleration}]}", {"TaintToleration"}, set()),
        ("score: {disabled: [{name: TaintToleration}]}", set(), {"TaintToleration"}),
        ("multiPoint: {disabled: [{name: TaintToleration}]}", {"TaintToleration"}, {"TaintToleration"}),
        (
            "multiPoint: {disabled: [{name: TaintToleration}]}, filter: {enabled: [{name: TaintToleration}]}",
            set(),
            {"TaintToleration"},
        ),
        ("filter: {disabled: [{name: '*'}], enabled: [{name: NodeName}]}", FILTERS - {"NodeName"}, set()),
        ("score: {disabled: [{name: '*'}]}", set(), {*WEIGHTS}),
    ],
)
def test_a_plugin_is_off_where_it_is_turned_off_and_nowhere_else(tmp_path, plugins, filters, scores):
    default = plugins_of(Profile())
    (found,) = map(plugins_of, read(tmp_path, f"profiles: [{{plugins: {{{plugins}}}}}]"))
    assert {rule.name for rule in default.filters} - {rule.name for rule in found.filters} == filters
    assert {rule.name for rule in default.scores} - {rule.name for rule in found.scores} == scores


def test_the_filters_are_those_that_are_named():
    assert {rule.name for rule in plugins_of(Profile()).filters} == FILTERS


def test_the_fullest_node_wins_where_a_profile_packs(tmp_path, node, pod):
    columns = Columns()
    for name in ("empty", "used"):
        columns.set_node(node(name))
    columns.place(pod("there", cpu="1"), "used")
    packed, default = (Decider(columns, random.Random(1), plugins_of(p)) for p in read(tmp_path, PACKED))
    assert packed.decide(pod(cpu="1")).node == "used"
    assert default.decide(pod(cpu="1")).node == "empty"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("profiles: [{schedulerName: a}, {schedulerName: a}]", "same schedulerName"),
        ("profiles: [{plugins: {score: {enabled: [{name: Nobodys}]}}}]", "no such plugin"),
        (
            "profiles: [{pluginConfig: [{name: NodeResourcesFit, args: {scoringStrategy: {type: Odd}}}]}]",
            "'Odd' is none of",
        ),
        ("profiles: [{plugins: 7}]", "int"),
    ],
)
def test_what_cannot_be_used_is_refused_at_the_start(tmp_path, text, why):
    with pytest.raises(StartupError) as error:
        read(tmp_path, text)
    assert why in error.value.cause
