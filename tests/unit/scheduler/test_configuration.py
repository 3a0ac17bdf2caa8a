"""Profiles from a KubeSchedulerConfiguration: what differs from the default, and what is refused."""

import random

import pytest

from orchestrator.base.errors import StartupError
from orchestrator.scheduler.configuration import profiles_from
from orchestrator.scheduler.decide import Decider
from orchestrator.scheduler.profiles import plugins_of
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
