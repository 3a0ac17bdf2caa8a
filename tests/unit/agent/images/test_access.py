"""Who may use an image that is here: the credentials of its pull are asked for again."""

from pathlib import Path

import pytest

from orchestrator.agent.images.access import PullRecords
from orchestrator.agent.images.keyring import Credential
from orchestrator.runtime.interface import RegistryAuth

NAME, OTHER, ID = "r.io/app:1", "r.io/else:1", "sha256:1"


def login(password: str = "p", secret: str = "ns/a/1") -> Credential:
    return Credential(RegistryAuth("r.io", "u", password), secret)


@pytest.mark.parametrize(
    ("policy", "name", "allowed"),
    [
        ("NeverVerify", NAME, True),
        ("NeverVerifyPreloadedImages", NAME, True),
        ("NeverVerifyAllowlistedImages", NAME, False),
        ("NeverVerifyAllowlistedImages", "r.io/base:3", True),
        ("NeverVerifyAllowlistedImages", "r.io/tools/x:3", True),
        ("AlwaysVerify", NAME, False),
    ],
)
def test_images_that_nobody_here_pulled(policy: str, name: str, allowed: bool) -> None:
    records = PullRecords(policy=policy, allowlist=["r.io/base", "r.io/tools/*"])
    assert records.may_use(name, ID, []) is allowed


async def test_a_pull_with_a_login_is_open_to_who_shows_it_again() -> None:
    records = PullRecords()
    await records.pulled(NAME, ID, login())
    assert not records.may_use(NAME, ID, [])
    assert not records.may_use(NAME, ID, [login("wrong", "ns/b/2")])
    assert records.may_use(NAME, ID, [login(secret="ns/b/2")]), "the same words in another secret"
    assert records.may_use(NAME, ID, [login("changed")]), "the same secret with other words"
    assert not records.may_use(OTHER, ID, [login()]), "the same image under a name that was not pulled"


@pytest.mark.parametrize("used", [None, login(secret="")])
async def test_a_pull_without_a_pods_login_opens_the_image_to_all(used: Credential | None) -> None:
    records = PullRecords()
    await records.pulled(NAME, ID, login())
    await records.pulled(NAME, ID, used)
    assert records.may_use(NAME, ID, [])
    await records.pulled(NAME, ID, login())
    assert records.may_use(NAME, ID, []), "a later login takes nothing away"


async def test_records_outlive_the_agent_and_go_with_their_images(tmp_path: Path) -> None:
    path = tmp_path / "agent" / "pulled-images.json"
    first = PullRecords(path)
    await first.load()
    await first.pulled(NAME, ID, login())
    assert b'"p"' not in path.read_bytes() and path.stat().st_mode & 0o077 == 0
    again = PullRecords(path)
    await again.load()
    assert not again.may_use(NAME, ID, []) and again.may_use(NAME, ID, [login(secret="ns/b/2")])
    await again.retain([])
    assert again.may_use(NAME, ID, [])


async def test_spoilt_records_are_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "pulled-images.json"
    path.write_text("{")
    records = PullRecords(path)
    await records.load()
    await records.pulled(NAME, ID, login())
    assert not records.may_use(NAME, ID, [])
