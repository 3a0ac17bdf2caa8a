"""A node's settings as an operator writes them, and what is said of a wrong one."""

from pathlib import Path
from typing import Any

import pytest

from orchestrator.agent.containers.podfiles import DnsSettings
from orchestrator.agent.containers.settings import of_host
from orchestrator.agent.eviction.thresholds import Amount, Observation, Threshold, met, parse
from orchestrator.agent.node.stages import Stage
from orchestrator.base.errors import StartupError
from orchestrator.config import Config


def test_what_is_written_is_what_the_node_gets() -> None:
    settings = Config(
        node_labels=("zone=a", "example.com/disk="),
        register_taints=("gpu=yes:NoSchedule", "example.com/own:NoExecute"),
        kube_reserved=("cpu=500m",),
        system_reserved=("memory=1Gi", "pid=100"),
        serialize_image_pulls=True,
        pod_pids_limit=-1,
        allowed_unsafe_sysctls=("kernel.msg*", "net/core/somaxconn"),
    ).kubelet_settings()
    assert settings.labels == {"zone": "a", "example.com/disk": ""}
    assert settings.taints == (
        {"key": "gpu", "value": "yes", "effect": "NoSchedule"},
        {"key": "example.com/own", "effect": "NoExecute"},
    )
    assert settings.reserved == ({"cpu": "500m"}, {"memory": "1Gi", "pid": "100"})
    assert settings.images.pulls_max == 1
    dns = DnsSettings("10.43.0.10", "cluster.local")
    found = of_host(dns, Path("/"), settings.pod_pids_limit, settings.unsafe_sysctls)
    assert (found.pids_max, found.abilities.unsafe_sysctls) == (0, ("kernel.msg*", "net/core/somaxconn"))
    assert of_host(dns, Path("/")).pids_max > 0


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("node_labels", ("zone",), "zone"),
        ("node_labels", ("zo ne=a",), "zo ne"),
        ("register_taints", ("gpu=yes",), "gpu"),
        ("register_taints", ("gpu=yes:Never",), "Never"),
        ("kube_reserved", ("gpu=1",), "gpu"),
        ("system_reserved", ("memory=lots",), "lots"),
        ("eviction_hard", ("memory.available>1Gi",), "memory.available>1Gi"),
        ("eviction_hard", ("memory.used<1Gi",), "memory.used"),
        ("eviction_hard", ("memory.available<120%",), "120%"),
        ("eviction_soft", ("memory.available<1Gi",), "grace period"),
        ("eviction_minimum_reclaim", ("nodefs.available=x",), "'x'"),
        ("image_gc_low_threshold", 90, "90"),
        ("image_maximum_gc_age", 60, "60"),
        ("max_parallel_image_pulls", -1, "-1"),
        ("image_pull_credentials_verification", "Sometimes", "Sometimes"),
        ("max_pods", 0, "max_pods"),
        ("allowed_unsafe_sysctls", ("vm.swappiness",), "vm.swappiness"),
        ("allowed_unsafe_sysctls", ("*",), "'*'"),
        ("allowed_unsafe_sysctls", ("net.core.*conn",), "net.core.*conn"),
        ("shutdown_grace_period_by_pod_priority", ("high=3",), "high=3"),
        ("shutdown_grace_period_by_pod_priority", ("5=3", "5=4"), "5=4"),
    ],
)
def test_a_wrong_value_is_named(name: str, value: Any, word: str) -> None:
    with pytest.raises(StartupError) as error:
        Config(**{name: value}).check()
    assert word in str(error.value)


def test_a_shutdown_has_one_plan() -> None:
    by_priority = ("2000000000=10", "-5=60", "0=30")
    config = Config(shutdown_grace_period_by_pod_priority=by_priority)
    config.check()
    assert config.shutdown_stages() == (Stage(-5, 60), Stage(0, 30), Stage(2_000_000_000, 10))
    with pytest.raises(StartupError, match="both set"):
        Config(shutdown_grace_period=5, shutdown_grace_period_by_pod_priority=by_priority).check()


def test_thresholds_as_a_kubelet_reads_them() -> None:
    found = parse(
        ["memory.available<100Mi", "pid.available<0"],
        ["nodefs.available<15%"],
        ["nodefs.available=1m30s"],
        ["memory.available=50Mi", "nodefs.available=5%"],
    )
    assert found == (
        Threshold("memory.available", Amount(100 << 20), reclaim=Amount(50 << 20)),
        Threshold("nodefs.available", Amount(share=0.15), 90.0, Amount(share=0.05)),
    )
    assert found[0].hard and not found[1].hard


@pytest.mark.parametrize(
    ("available", "with_reclaim", "expected"),
    [(150, False, False), (99, False, True), (149, True, True), (150, True, False)],
)
def test_a_threshold_is_met_below_it_and_left_when_the_reclaim_is_free(
    available: int, with_reclaim: bool, expected: bool
) -> None:
    threshold = Threshold("nodefs.available", Amount(share=0.1), reclaim=Amount(50))
    assert met(threshold, Observation(available, 1000), with_reclaim=with_reclaim) is expected
    assert not met(threshold, None)
