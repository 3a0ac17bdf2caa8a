"""What is on this host, taken with plain tools and /proc: nothing here is shared with the product.

`take` returns sections of lines; two that are taken with nothing left behind in between are equal.
"""

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

Inventory = dict[str, list[str]]

MARKER = "ORCHESTRATOR_E2E"
"""Everything that the tests start has this in its environment, and so have its children."""

Look = Callable[[], Inventory]
SETTLE_S = 60.0
"""A pod that ends may take its grace period of 30 s."""

PROGRAMS = ("containerd-shim", "runc", "pause", "httpd", "dockerd", "containerd")
PLACES = (
    "/etc/orchestrator",
    "/opt/orchestrator",
    "/run/orchestrator",
    "/var/lib/orchestrator",
    "/var/log/pods",
    "/var/log/containers",
    "/var/lib/kubelet",
    "/usr/local/bin",
    "/etc/systemd/system",
    "/run/netns",
    "/run/docker/netns",
)
SETTINGS = ("net/ipv4/ip_forward", "net/ipv4/conf/all/route_localnet", "net/bridge/bridge-nf-call-iptables")


def take(socket: str) -> Inventory:
    """Everything that a cluster could leave behind; `socket` is the engine's."""
    return {
        "containers": _containers(socket),
        "links": sorted(link["ifname"] for link in _ip("link")),
        "addresses": sorted(
            f"{link['ifname']} {address.get('local')}/{address.get('prefixlen')}"
            for link in _ip("addr")
            for address in link.get("addr_info", ())
            if address.get("family") == "inet"
        ),
        "routes": sorted(
            " ".join(f"{key}={route[key]}" for key in ("dst", "dev", "gateway", "table") if key in route)
            for route in _ip("route", "show", "table", "all")
            if route.get("type") != "multicast" and ":" not in route.get("dst", "")
        ),
        "nftables": _nftables(),
        "iptables": _iptables(),
        "namespaces": _namespaces(),
        "mounts": sorted(line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        "cgroups": _cgroups(),
        "processes": _processes(),
        "files": _files(),
        "settings": [f"{name}={_read(Path('/proc/sys', name))}" for name in SETTINGS],
    }


def difference(before: Inventory, after: Inventory, may_end: Sequence[str] = ()) -> str:
    """One line per thing that came or went, empty when all is as it was.

    Processes may end, and what is in the sections `may_end`: others' pods that were ending already.
    """
    lines = []
    for section in before:
        for sign, one, other in (("+", after, before), ("-", before, after)):
            rest = list(other[section])
            for line in one[section]:
                if line in rest:
                    rest.remove(line)
                elif sign == "+" or section not in ("processes", *may_end):
                    lines.append(f"{sign} {section}: {line}")
    return "\n".join(lines)


def settled(look: Look) -> Inventory:
    """What there is once nothing comes or goes any more: what earlier tests deleted may still be ending."""
    until_s = time.monotonic() + SETTLE_S
    found = look()
    while time.monotonic() < until_s:
        time.sleep(1)
        before, found = found, look()
        if not difference(before, found):
            break
    return found


def check(before: Inventory, look: Look, may_end: Sequence[str] = ()) -> None:
    """Fail on any difference that stays; with SHARED_HOST set, where others work meanwhile, only tell it."""
    until_s = time.monotonic() + SETTLE_S
    while (changes := difference(before, look(), may_end)) and time.monotonic() < until_s:
        time.sleep(1)
    if changes and os.environ.get("SHARED_HOST"):
        print(f"the host has changed:\n{changes}")
    else:
        assert not changes, f"the host is not as it was before:\n{changes}"


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout


def _ip(*arguments: str) -> list[Any]:
    return json.loads(_run("ip", "-j", *arguments) or "[]")


def _containers(socket: str) -> list[str]:
    url = "http://localhost/containers/json?all=1"
    rows = json.loads(_run("curl", "-s", "-m", "10", "--unix-socket", socket, url) or "[]")
    return sorted(f"{row['Names'][0]} {row['Image']}" for row in rows)


def _nftables() -> list[str]:
    listed = json.loads(_run("nft", "-j", "list", "ruleset") or '{"nftables": []}')["nftables"]
    return sorted(json.dumps(_steady(entry), sort_keys=True) for entry in listed if "metainfo" not in entry)


def _steady(value: Any) -> Any:
    """Without handles and counters, which change while nothing does."""
    if isinstance(value, dict):
        left = {key: _steady(part) for key, part in value.items() if key not in ("handle", "index")}
        return {key: None if key == "counter" else part for key, part in left.items()}
    if isinstance(value, list):
        return [_steady(part) for part in value]
    return value


def _iptables() -> list[str]:
    lines = [line for tool in ("iptables-save", "ip6tables-save") for line in _run(tool).splitlines()]
    return [re.sub(r"\[\d+:\d+\]", "", line).strip() for line in lines if not line.startswith("#")]


def _namespaces() -> list[str]:
    """Network namespaces that a process is in."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            found.add(os.readlink(process / "ns/net"))
    return sorted(found)


def _cgroups() -> list[str]:
    ours = re.compile(r"/(docker|kubepods|orc[0-9a-f]{6})[^/]*/|/(kubepods|docker-)[^/]*$")
    found = []
    for folder, _, _ in os.walk("/sys/fs/cgroup"):
        if ours.search(folder):
            found.append(folder)
    return sorted(found)


def _processes() -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        name, marked = _read(process / "comm"), f"{MARKER}=" in _read(process / "environ")
        if int(process.name) != os.getpid() and (marked or name.startswith(PROGRAMS)):
            found.append(_read(process / "cmdline").replace("\0", " ").strip() or name)
    return sorted(found)


def _files() -> list[str]:
    found = [str(path) for path in Path("/var/log").glob("orchestrator*")]
    for place in PLACES:
        for folder, folders, files in os.walk(place):
            found += [os.path.join(folder, name) for name in (*folders, *files)]
        if os.path.isdir(place):
            found.append(place)
    return sorted(found)


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
