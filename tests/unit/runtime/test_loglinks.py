"""Links for collectors of logs: made, moved on, removed, swept."""

from pathlib import Path

import pytest

from orchestrator.runtime import loglinks
from orchestrator.runtime.interface import Container


def container(container_id: str = "c1", attempt: int = 0, name: str = "app") -> Container:
    return Container(container_id, "s1", "u1", "web", "shop", name, attempt, "demo", "sha", "running")


@pytest.fixture
def pods(tmp_path: Path) -> Path:
    return tmp_path / "log" / "pods"


def by_container(pods: Path) -> dict[str, str]:
    directory = loglinks.containers(pods)
    return {link.name: str(link.readlink().relative_to(pods)) for link in directory.iterdir()}


def test_a_file_of_the_engine_is_found_by_pod_and_by_container(pods: Path, tmp_path: Path) -> None:
    target = tmp_path / "c1-json.log"
    target.write_text("{}")
    for _ in range(2):
        loglinks.link(pods, container(), target)
    assert by_container(pods) == {"web_shop_app-c1.log": "shop_web_u1/app/0.log"}
    assert (loglinks.containers(pods) / "web_shop_app-c1.log").read_text() == "{}"
    loglinks.unlink(pods, "c1")
    assert by_container(pods) == {} and list(pods.iterdir()) == [] and target.exists()


def test_a_log_of_ours_stays_when_its_link_goes(pods: Path) -> None:
    path = loglinks.log_path(pods, container())
    path.parent.mkdir(parents=True)
    path.write_text("line")
    loglinks.link(pods, container())
    loglinks.unlink(pods, "c1")
    assert by_container(pods) == {} and path.read_text() == "line"


def test_an_attempt_made_anew_takes_the_place_of_its_predecessor(pods: Path, tmp_path: Path) -> None:
    for name in ("c1", "c2"):
        (tmp_path / name).write_text(name)
        loglinks.link(pods, container(name), tmp_path / name)
    assert loglinks.log_path(pods, container()).read_text() == "c2"


def test_what_leads_nowhere_is_swept_and_others_links_are_not(pods: Path, tmp_path: Path) -> None:
    for name in ("gone", "here"):
        (tmp_path / name).write_text(name)
        loglinks.link(pods, container(name, name=name), tmp_path / name)
    foreign = loglinks.containers(pods) / "other.log"
    foreign.symlink_to(tmp_path / "nothing")
    (tmp_path / "gone").unlink()
    loglinks.sweep(pods)
    names = {link.name for link in loglinks.containers(pods).iterdir()}
    assert names == {"web_shop_here-here.log", "other.log"}
    assert [path.name for path in (pods / "shop_web_u1").iterdir()] == ["here"]


def test_long_names_keep_the_container_apart(pods: Path) -> None:
    long = Container("c" * 64, "s", "u", "p" * 200, "n" * 63, "app", 0, "demo", "sha", "running")
    loglinks.link(pods, long)
    (link,) = loglinks.containers(pods).iterdir()
    assert len(link.name) == 255 and link.name.endswith("-" + "c" * 64 + ".log")


def test_a_host_that_refuses_links_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file")
    loglinks.link(tmp_path / "log" / "pods", container(), tmp_path / "target")
    loglinks.unlink(tmp_path / "log" / "pods", "c1")
    loglinks.sweep(tmp_path / "log" / "pods")
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
    assert (tmp_path / "log").read_text() == "a file"


def test_a_second_server_keeps_its_links_apart(tmp_path: Path) -> None:
    assert loglinks.containers(tmp_path / "pod-logs") == tmp_path / "pod-logs-links"
