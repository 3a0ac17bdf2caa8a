"""Who may import whom: arrows only downwards, read from the imports themselves (ARCHITECTURE, "Layout")."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2] / "orchestrator"
FLOOR = {"base"}
OPEN = FLOOR | {"pki", "web", "wire"}
API = OPEN | {"api"}
COMPONENT = API | {"client", "informer"}

MAY_IMPORT = {
    "base": set(),
    "pki": FLOOR,
    "web": FLOOR,
    "wire": FLOOR,
    "api": OPEN,
    "store": API,
    "registry": API | {"store", "admission"},
    "auth": API,
    "admission": API,
    "server": API | {"registry"},
    "client": API | {"registry"},
    "informer": API | {"client", "store"},
    "runtime": FLOOR | {"wire"},
    "network/dataplane": FLOOR,
    "network": COMPONENT | {"network/dataplane"},
    "scheduler/rules": API,
    "scheduler": COMPONENT | {"scheduler/rules"},
    "controllers": COMPONENT | {"scheduler/rules"},
    "agent": COMPONENT | {"runtime", "network/dataplane", "scheduler/rules"},
}
"""Room → rooms that it may import besides itself. `assembly`, `daemon` and `cli` are above all of them."""

ONLY_IN = {
    "aiodocker": {"runtime"},
    "pyroute2": {"network/dataplane"},
    "grpc": {"wire"},
    "jwt": {"auth"},
    "uvloop": {"cli"},
}


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    if len(parts) == 1:
        return parts[0].removesuffix(".py")
    nested = f"{parts[0]}/{parts[1]}"
    return nested if nested in MAY_IMPORT else parts[0]


@cache
def imported(path: Path) -> tuple[str, ...]:
    """Every module that a file imports, also inside functions."""
    return tuple(_imports(path))


def _imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def room_of_module(name: str) -> str | None:
    parts = name.split(".")
    if parts[0] != "orchestrator" or len(parts) < 2:
        return None
    nested = "/".join(parts[1:3])
    return nested if nested in MAY_IMPORT else parts[1]


SOURCES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("room", sorted(MAY_IMPORT))
def test_a_room_imports_only_what_is_below_it(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in SOURCES
        if room_of(path) == room
        for name in imported(path)
        if (target := room_of_module(name)) is not None
        and target != room
        and target not in MAY_IMPORT[room] | {"KUBERNETES_VERSION", "__version__"}
    ]
    assert wrong == []


def test_every_room_is_in_the_table() -> None:
    above = {"assembly", "daemon", "cli", "config", "__init__", "__main__"}
    assert {room_of(path) for path in SOURCES} - set(MAY_IMPORT) == above


def test_only_the_command_line_imports_the_daemon() -> None:
    users = {room_of(path) for path in SOURCES if "orchestrator.daemon" in set(imported(path))}
    assert users <= {"cli"}


@pytest.mark.parametrize("library", sorted(ONLY_IN))
def test_a_heavy_library_is_imported_in_its_room_only(library: str) -> None:
    users = {
        room_of(path)
        for path in SOURCES
        if any(name == library or name.startswith(f"{library}.") for name in imported(path))
    }
    assert users <= ONLY_IN[library]


def test_aiohttp_server_appears_only_in_web() -> None:
    server = ("aiohttp.web", "aiohttp.web_protocol", "aiohttp.web_request", "aiohttp.web_response")
    users = {room_of(path) for path in SOURCES if any(name.startswith(server) for name in imported(path))}
    assert users <= {"web"}


def test_controllers_do_not_know_each_other() -> None:
    """Shared helpers are fine; a module that defines a controller is imported by the list of all only."""
    folder = ROOT / "controllers"
    controllers = {p.stem for p in folder.glob("*.py") if "async def reconcile" in p.read_text()}
    wrong = [
        f"{path.name} imports {name}"
        for path in folder.glob("*.py")
        if path.stem != "all"
        for name in imported(path)
        if name.startswith("orchestrator.controllers.") and name.split(".")[2] in controllers
    ]
    assert wrong == []


def test_no_task_is_made_outside_of_a_supervisor() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if path != ROOT / "base/tasks.py"
        and any(call in path.read_text() for call in ("create_task(", "ensure_future("))
    ]
    assert wrong == []
