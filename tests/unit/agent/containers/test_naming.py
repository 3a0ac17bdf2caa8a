"""Names that a pod gives itself."""

from typing import Any

import pytest

from orchestrator.agent.containers.env import ConfigError
from orchestrator.agent.containers.naming import domain, hostname, short_name
from tests.unit.agent.builders import pod

FULL = {"hostname": "db", "subdomain": "sql", "setHostnameAsFQDN": True}


@pytest.mark.parametrize(
    ("name", "spec", "wanted"),
    [
        ("web", {}, "web"),
        ("web", {"hostname": "db"}, "db"),
        ("web", {"hostname": "db", "subdomain": "sql"}, "db"),
        ("a" * 62 + "-b", {}, "a" * 62),
        ("web", {"hostNetwork": True}, ""),
        ("web", FULL, "db.sql.default.svc.cluster.local"),
        ("web", {"setHostnameAsFQDN": True}, "web"),
        ("web", {"hostnameOverride": "this.is.mine", "subdomain": "sql"}, "this.is.mine"),
    ],
)
def test_what_processes_see(name: str, spec: dict[str, Any], wanted: str) -> None:
    desired = pod(**spec)
    desired["metadata"]["name"] = name
    assert hostname(desired, "cluster.local") == wanted


def test_a_full_name_that_the_kernel_does_not_take_stops_the_pod() -> None:
    with pytest.raises(ConfigError, match=r"failed to construct FQDN .* is too long \(64 .*, 90 characters"):
        hostname(pod(**{**FULL, "hostname": "h" * 60}), "cluster.local")


def test_the_domain_needs_a_subdomain() -> None:
    assert (domain(pod(**FULL), "c.l"), domain(pod(hostname="db"), "c.l")) == ("sql.default.svc.c.l", "")
    assert short_name(pod(**FULL)) == "db"
