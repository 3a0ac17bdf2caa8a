"""Users and groups of images: what a spec's words mean, and that no image makes us read the host's files."""

from pathlib import Path

import pytest

from orchestrator.runtime.containerd_users import Identity, parse, read, resolve
from orchestrator.runtime.interface import RuntimeFailure

ACCOUNTS = parse(
    "root:x:0:0:root:/root:/bin/sh\n# comment:x:1:1\nbroken\napp:x:1000:1001:App:/home/app:/bin/sh\n",
    "root:x:0:\napp:x:1001:\nwheel:x:10:root,app\nadm:x:4:root\n",
)


@pytest.mark.parametrize(
    ("user", "extra", "wanted"),
    [
        ("", (), Identity(0, 0, (0, 4, 10))),
        ("app", (), Identity(1000, 1001, (10, 1001))),
        ("1000", (), Identity(1000, 1001, (10, 1001))),
        ("1000:1000", (2000,), Identity(1000, 1000, (10, 1000, 2000))),
        ("app:wheel", (), Identity(1000, 10, (10,))),
        ("4242", (7,), Identity(4242, 0, (0, 7))),
    ],
)
def test_a_user_is_a_name_or_number_with_its_groups(
    user: str, extra: tuple[int, ...], wanted: Identity
) -> None:
    assert resolve(user, extra, ACCOUNTS) == wanted
    assert set(resolve(user, extra, ACCOUNTS, strict=True).groups) == {wanted.gid, *extra}


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ("nobody", "unable to find user nobody"),
        ("²", "unable to find user ²"),  # A digit to Unicode, and no number.
        ("0:nogroup", "unable to find group nogroup"),
    ],
)
def test_a_name_that_nobody_has_is_refused(user: str, words: str) -> None:
    with pytest.raises(RuntimeFailure, match=words):
        resolve(user, (), ACCOUNTS)


def layer(root: Path, name: str, passwd: str) -> Path:
    (root / name / "etc").mkdir(parents=True)
    (root / name / "etc" / "passwd").write_text(passwd)
    return root / name


def test_the_uppermost_layer_that_has_the_file_counts(tmp_path: Path) -> None:
    upper, middle, lower = tmp_path / "none", tmp_path / "m", tmp_path / "l"
    upper.mkdir()
    layer(tmp_path, "m", "app:x:1:2:::\n")
    layer(tmp_path, "l", "app:x:3:4:::\n")
    overlay = {"type": "overlay", "options": ["index=off", f"lowerdir={upper}:{middle}:{lower}"]}
    assert read([overlay]).users[0][:4] == ("app", "x", "1", "2")
    assert read([{"type": "bind", "source": str(lower), "options": ["ro"]}]).users[0][2] == "3"


@pytest.mark.parametrize("linked", ["etc", "etc/passwd"])
def test_no_link_leads_out_of_the_image(tmp_path: Path, linked: str) -> None:
    outside = layer(tmp_path, "host", "app:x:0:0:::\n")
    inside = tmp_path / "image"
    (inside / linked).parent.mkdir(parents=True)
    (inside / linked).symlink_to(outside / linked)
    assert read([{"type": "bind", "source": str(inside)}]).users == ()
