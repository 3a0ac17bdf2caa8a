"""What the config may say about etcd."""

from typing import Any

import pytest

from orchestrator.base.errors import StartupError
from orchestrator.config import Config

GOOD = {"store": "etcd", "etcd_endpoints": ("https://etcd-1.example.org:2379", "http://[::1]:2379")}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"etcd_endpoints": ("https://10.0.0.1:2379/",)},
        {"etcd_prefix": "/clusters/one.example_2-b"},
        {"etcd_cert": "/c", "etcd_key": "/k", "etcd_user": "u", "etcd_password_file": "/p"},
    ],
)
def test_what_works_is_taken(changes: dict[str, Any]) -> None:
    Config(**{**GOOD, **changes}).check()


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"etcd_endpoints": ()}, "--etcd-endpoints"),
        ({"etcd_endpoints": ("10.0.0.1:2379",)}, "10.0.0.1:2379"),
        ({"etcd_endpoints": ("https://10.0.0.1",)}, "https://10.0.0.1"),
        ({"etcd_endpoints": ("https://u:p@h:2379",)}, "https://host:2379"),
        ({"etcd_endpoints": ("unix:///run/etcd",)}, "unix:///run/etcd"),
        ({"etcd_cert": "/c"}, "etcd_key"),
        ({"etcd_user": "u"}, "etcd_password_file"),
        ({"etcd_prefix": "registry"}, "etcd_prefix"),
        ({"etcd_prefix": "/registry/"}, "etcd_prefix"),
        ({"etcd_prefix": "/"}, "etcd_prefix"),
        ({"etcd_prefix": "/orchestrator"}, "/orchestrator"),
        ({"etcd_prefix": "/orchestrator/x"}, "/orchestrator"),
    ],
)
def test_what_cannot_work_is_named(changes: dict[str, Any], names: str) -> None:
    with pytest.raises(StartupError) as raised:
        Config(**{**GOOD, **changes}).check()
    assert names in str(raised.value)


def test_a_log_store_needs_no_etcd() -> None:
    Config().check()
