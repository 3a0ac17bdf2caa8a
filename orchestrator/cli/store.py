"""`orchestrator store`: what the store holds, whether it is whole, and what an operator does to it.

`check` and `stats` read files without changing them, also beside a running server. `compact` and `rotate-key` ask
the running server, or work on the directory when none runs. `repair` is for a stopped server with a damaged log.
Exit codes: 0 done or whole, 1 could not, 2 not understood, 3 the log is damaged.
"""

import asyncio
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec
from tabulate import tabulate

from orchestrator import config as settings
from orchestrator.base import log
from orchestrator.base.errors import StartupError
from orchestrator.config import Config

if TYPE_CHECKING:
    from orchestrator.store.check import CheckReport
    from orchestrator.store.repair import RepairReport

DAMAGED = 3
_PATH = click.Path(path_type=Path)
_SHOWN = 15
"""Resources in a table; `--json` has all."""
_FIGURES = (
    ("revision", "revision"),
    ("oldest readable revision", "compact_revision"),
    ("keys", "keys"),
    ("live data", "live_bytes"),
    ("on disk", "disk_bytes"),
    ("history in memory", "history_bytes"),
    ("history on disk", "history_disk_bytes"),
    ("segments", "segments"),
    ("snapshots", "snapshots"),
    ("leases", "leases"),
    ("watches", "watches"),
    ("dropped at the last start", "dropped_bytes"),
    ("recovery, seconds", "recovery_seconds"),
)
"""Label and name in the engine's statistics."""


def _options(function: Callable[..., None]) -> Callable[..., None]:
    """The flags of every command here, handed over as `config` and `as_json`."""

    @wraps(function)
    def with_config(file: Path | None, data_dir: Path | None, kubeconfig: Path | None, **others: Any) -> None:
        log.configure("warning")
        function(settings.load(file, {"data_dir": data_dir, "write_kubeconfig": kubeconfig}), **others)

    for option in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON."),
        click.option("--kubeconfig", type=_PATH, default=None, help="The admin's, to ask a running server."),
        click.option("--data-dir", type=_PATH, default=None, help="Where the store lies."),
        click.option("--config", "file", type=_PATH, default=None, help="Config file (TOML)."),
    ):
        with_config = option(with_config)
    return with_config


@click.group("store", help="Look at the store and look after it.")
def command() -> None: ...


@command.command("check", help="Read everything and say whether it is as it was written; changes nothing.")
@_options
def check(config: Config, as_json: bool) -> None:
    from orchestrator.assembly import storecare

    found = storecare.check(config)
    _print({"ok": found.ok, **asdict(found)}, as_json, _check_lines(found))
    sys.exit(0 if found.ok else DAMAGED)


@command.command(
    "repair", help="Make a damaged store usable by giving up what is damaged; tells what is lost."
)
@_options
@click.option("--yes", is_flag=True, help="Do it; without this only the damage is told.")
def repair(config: Config, as_json: bool, yes: bool) -> None:
    from orchestrator.assembly import storecare

    if not yes:
        found = storecare.check(config)
        _print({"ok": found.ok, **asdict(found)}, as_json, _check_lines(found))
        if found.ok:
            return
        raise StartupError(
            "Nothing was changed: a repair gives up everything from the first damage on.",
            "Restore a backup if you have one (orchestrator restore FILE --force); else run this with --yes.",
        )
    done = storecare.repair(config)
    _print(asdict(done), as_json, _repair_lines(done))


@command.command("stats", help="Figures: from the running server, or from the files of a stopped one.")
@_options
def stats(config: Config, as_json: bool) -> None:
    from orchestrator.assembly import storecare

    found = asyncio.run(storecare.stats(config))
    _print(found, as_json, _stats_lines(found))


@command.command("compact", help="Forget history and give the disk space of what is dead back.")
@_options
def compact(config: Config, as_json: bool) -> None:
    from orchestrator.assembly import storecare

    done = asyncio.run(storecare.compact(config))
    before, after = (size(done[when].get("disk_bytes", 0)) for when in ("before", "after"))
    _print(done, as_json, [f"on disk: {before} before, {after} after"])


@command.command("rotate-key", help="Make a new encryption key and seal everything anew with it.")
@_options
def rotate_key(config: Config, as_json: bool) -> None:
    from orchestrator.assembly import storecare

    done = asyncio.run(storecare.rotate_key(config))
    values, old = done["resealed"], done["dropped_keys"]
    _print(done, as_json, [f"key {done['key']}: {values} values sealed with it, {old} old keys dropped"])


def _print(found: Any, as_json: bool, lines: list[str]) -> None:
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    for line in lines:
        click.echo(line)


def _check_lines(found: "CheckReport") -> list[str]:
    lines = [f"{each.kind}: {each.file} at byte {each.offset}: {each.what}" for each in found.findings]
    figures = found.figures
    lines.append(
        f"{'ok' if found.ok else 'DAMAGED'}: {figures['segments']} segments and {figures['snapshots']} snapshots, "
        f"{figures['records']} transactions, {size(figures['disk_bytes'])}, up to revision {figures['revision']}"
    )
    return lines


def _repair_lines(done: "RepairReport") -> list[str]:
    if not done.damage:
        return ["nothing was damaged, nothing was changed"]
    lines = [f"repaired: {done.damage}"]
    lines += [f"given up: {each.file} bytes {each.start} to {each.end}: {each.what}" for each in done.lost]
    if done.lost_revisions:
        first, last = done.lost_revisions
        lines.append(
            f"lost: {done.lost_records} transactions that can be recognised, revisions {first} to {last}"
        )
    lines.append(
        f"kept: {done.keys} keys as of revision {done.kept_revision}; the revision is {done.revision} now, "
        "so that none is given out twice"
    )
    lines.append(
        "clients that watch, or page through a list, are told that their revision is gone, and list again"
    )
    return [*lines, f"the old files are in {done.set_aside}"]


def _stats_lines(found: dict[str, Any]) -> list[str]:
    figures = found["stats"]
    rows = [("store", f"{found['engine']}, {_state(found)}")]
    rows += [(label, _figure(name, figures[name])) for label, name in _FIGURES if name in figures]
    rows.append(("encryption", _encryption(found["encryption"])))
    if found["dropped"]:
        rows.append(("torn tail", found["dropped"]))
    resources = [(row["resource"], row["count"], size(row["bytes"])) for row in found["resources"][:_SHOWN]]
    heads = ("RESOURCE", "COUNT", "BYTES")
    table = tabulate(resources, heads, tablefmt="plain", colalign=("left", "right", "right"))
    return [tabulate(rows, tablefmt="plain", disable_numparse=True), *(["", table] if resources else [])]


def _state(found: dict[str, Any]) -> str:
    if not found["healthy"]:
        return f"stopped: {found['fault']}"
    if found["no_space"]:
        return "no space left on disk: writes are refused"
    if found["silence"]:
        return f"read from files, since the server does not answer: {found['silence']}"
    return "running" if found["running"] else "no server running"


def _encryption(found: dict[str, Any]) -> str:
    if not found["encrypted"]:
        return "off" if found["complete"] else "off, values still being rewritten"
    resources = ", ".join(prefix.removeprefix("/registry/").rstrip("/") for prefix in found["encrypted"])
    pending = "" if found["complete"] else ", values still being rewritten"
    return f"{resources}; key {found['key']} of {found['key_created']}{pending}"


def _figure(name: str, value: float) -> str:
    if name.endswith("_bytes"):
        return size(value)
    return f"{value:.3f}" if name.endswith("_seconds") else f"{value:.0f}"


def size(value: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
