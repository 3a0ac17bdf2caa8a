"""Every decision is one of the oracle's best, on clusters in which everything changes all the time.

`SCHEDULER_TEST_DECISIONS` and `SCHEDULER_TEST_SEED` make the sample a campaign (tests/nightly.sh).
"""

import os
import random
from collections import Counter

import pytest

from orchestrator.scheduler.rules.infos import PodInfo
from tests.unit.scheduler import oracle
from tests.unit.scheduler.clusters import Both, item

DECISIONS = int(os.environ.get("SCHEDULER_TEST_DECISIONS", "250"))
SEED = int(os.environ.get("SCHEDULER_TEST_SEED", "1"))
STEPS_PER_CLUSTER = 120
PLUGINS = sorted({*oracle.FILTERS, *oracle.SCORES} - {"NodeName"})
"""Pods that name their node are not scheduled, so `NodeName` decides nothing."""


def decisions(seed, count, off=""):
    """(cluster, pod) at each decision, the pod mostly placed afterwards where the scheduler wants it."""
    number = 0
    while count > 0:
        rng = random.Random(f"{seed}-{number}")
        number += 1
        both = Both(rng, off)
        for _ in range(STEPS_PER_CLUSTER):
            pod = both.step()
            if pod is None:
                continue
            yield both, pod
            count -= 1
            if count <= 0:
                return
            chosen = both.decider.decide(PodInfo(item(pod))).node
            if chosen and rng.random() < 0.8:
                both.place(pod, chosen)


def test_every_decision_is_the_oracles_while_everything_changes():
    for both, pod in decisions(SEED, DECISIONS):
        info = PodInfo(item(pod))
        nodes = oracle.fitting(both.world, pod)
        parts = oracle.parts(both.world, pod, nodes)
        explained = both.decider.explain(info)
        assert {name for name, why in explained.items() if "scores" in why} == set(nodes), (pod, explained)
        for plugin, scores in parts.items():
            found = {name: explained[name]["scores"].get(plugin) for name in nodes}
            # A plugin that has nothing to say about a pod gives no node more than another.
            if set(found.values()) != {None}:
                assert found == scores, (plugin, pod)
            else:
                assert len(set(scores.values())) == 1, (plugin, pod)
        best = oracle.best(both.world, pod)
        decision = both.decider.decide(info)
        assert decision.node in best if best else not decision.node, (pod, decision)


def test_every_plugin_decides_its_share_of_the_cases():
    """Without it another set of nodes would be best, in one case of a hundred and more: so the test above fails
    when a plugin does not work."""
    total, differs = 0, Counter()
    for both, pod in decisions(SEED + 1, max(200, DECISIONS // 8)):
        total += 1
        differs.update(plugin for plugin in PLUGINS if matters(both.world, pod, plugin))
    assert {plugin: differs[plugin] for plugin in PLUGINS if differs[plugin] < total / 100} == {}


def matters(world, pod, plugin):
    return oracle.best(world, pod) != oracle.best(world, pod, plugin)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_without_a_plugin_a_decision_is_not_the_oracles(plugin):
    """The first decision that the plugin matters to, decided without it, soon is none of the best nodes."""
    for both, pod in decisions(SEED + 2, 4000, off=plugin):
        if both.decider.decide(PodInfo(item(pod))).node not in (oracle.best(both.world, pod) or {""}):
            return
    pytest.fail(f"nobody misses {plugin}")
