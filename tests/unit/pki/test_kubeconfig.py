"""The admin's kubeconfig: complete, private, and left alone when nothing changed."""

import base64
from pathlib import Path

import yaml

from orchestrator.base.clock import VirtualClock
from orchestrator.pki import kubeconfig
from orchestrator.pki.authority import Authority, CertificateSpec


def test_one_file_is_enough_for_a_client(tmp_path: Path) -> None:
    authority = Authority(tmp_path, VirtualClock())
    pair, _ = authority.ensure("admin", CertificateSpec("admin", ("system:masters",)))
    text = kubeconfig.render("https://127.0.0.1:6443", authority.pem, pair, "admin")
    path = tmp_path / "made" / "admin.kubeconfig"
    kubeconfig.write(path, text)
    config = yaml.safe_load(path.read_text())
    context = config["contexts"][0]["context"]
    assert config["current-context"] == config["contexts"][0]["name"]
    assert (context["cluster"], context["user"]) == (
        config["clusters"][0]["name"],
        config["users"][0]["name"],
    )
    user = config["users"][0]["user"]
    assert base64.b64decode(user["client-key-data"]) == pair.key_pem()
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_unchanged_file_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "c"
    kubeconfig.write(path, "a")
    before = path.stat().st_ino
    kubeconfig.write(path, "a")
    assert path.stat().st_ino == before
    kubeconfig.write(path, "b")
    assert path.read_text() == "b"
