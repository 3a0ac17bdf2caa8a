"""The host as the daemon finds it: name, address, routes. Checks that change nothing. Called by `daemon`."""

import ipaddress
import os
import re
import secrets
import socket
from dataclasses import dataclass, replace
from pathlib import Path

from orchestrator.base.errors import StartupError
from orchestrator.config import Config

PROBE_ADDRESS = ("192.0.2.1", 9)
"""For asking the kernel which source address it would use; nothing is sent."""


@dataclass(frozen=True, slots=True)
class Route:
    """One IPv4 route of the host."""

    link: str
    network: ipaddress.IPv4Network


def complete(config: Config) -> Config:
    """`config` with names and addresses filled in from the host. Raises `StartupError`."""
    config.check()
    advertise = config.advertise_address or default_address()
    name = (config.node_name or socket.gethostname()).lower()
    if len(name) > 253 or not re.fullmatch(
        r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", name
    ):
        raise StartupError(
            f"{name!r} can't be the name of a node.",
            "Give one with --node-name: lower case letters, digits, '-'.",
        )
    node_ip = config.node_ip or advertise
    for text in (advertise, node_ip):
        _address(text)
    return replace(config, advertise_address=advertise, node_name=name, node_ip=node_ip)


def default_address() -> str:
    """The address that packets to the outside would carry; loopback when there is no way out."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(PROBE_ADDRESS)
            return str(probe.getsockname()[0])
        except OSError:
            return "127.0.0.1"


def check_root() -> None:
    """Links, rules and mounts need root."""
    if os.geteuid() != 0:
        raise StartupError(
            "The node agent sets up links, firewall rules and mounts, which needs root.",
            "Run as root, or pass --no-agent to run the control plane only.",
        )


def check_ranges(config: Config, instance: str) -> None:
    """Pod and service ranges must not cover anything that the host routes elsewhere."""
    own = f"orc{instance}"
    for setting in ("pod_cidr", "service_cidr"):
        wanted = ipaddress.ip_network(getattr(config, setting))
        for route in routes():
            if wanted.version == 4 and not route.link.startswith(own) and route.network.overlaps(wanted):
                raise StartupError(
                    f"{setting} {wanted} overlaps the route {route.network} on {route.link}.",
                    f"Choose another range with --{setting.replace('_', '-')}.",
                )


def routes() -> list[Route]:
    """IPv4 routes of the main table, the default route left out."""
    found = []
    try:
        lines = Path("/proc/net/route").read_text().splitlines()[1:]
    except OSError:
        return []
    for line in lines:
        fields = line.split()
        network = ipaddress.ip_network((_number(fields[1]), _prefix(fields[7])), strict=False)
        if network.prefixlen > 0 and isinstance(network, ipaddress.IPv4Network):
            found.append(Route(fields[0], network))
    return found


def check_port(address: str, port: int, what: str, flag: str) -> None:
    """Whether `port` is free. Raises `StartupError` naming it."""
    if port == 0:
        return
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise StartupError(
                f"Port {port} for {what} can't be used on {address}: {error.strerror}.",
                f"Stop the process that has it (`ss -ltnp` names it) or choose another with {flag}.",
            ) from error


def local_addresses() -> list[str]:
    """IPv4 addresses of this host, loopback included."""
    found = {"127.0.0.1"}
    trie = Path("/proc/net/fib_trie")
    if trie.exists():
        previous = ""
        for line in trie.read_text().splitlines():
            if "/32 host LOCAL" in line and (match := re.search(r"\d+\.\d+\.\d+\.\d+", previous)):
                found.add(match.group(0))
            previous = line
    return sorted(found)


def instance_id(data_dir: Path) -> str:
    """Six hex digits that mark everything this daemon makes on the host: the kept ones, or new ones, unwritten."""
    path = data_dir / "instance"
    if not path.exists():
        return secrets.token_hex(3)
    text = path.read_text().strip()
    if not re.fullmatch(r"[0-9a-f]{6}", text):
        raise StartupError(f"{path} does not hold an instance id.", "Restore it: six hex digits.")
    return text


def is_known(data_dir: Path) -> bool:
    """Whether a daemon has run on this host with this data before."""
    return (data_dir / "instance").exists()


def make_directories(config: Config, instance: str) -> None:
    """The first change on the host: data and run directory, and the instance's id in the former."""
    try:
        config.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        config.run_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
        path = config.data_dir / "instance"
        if not path.exists():
            path.write_text(instance + "\n")
    except OSError as error:
        raise StartupError(
            f"{error.filename} can't be written: {error.strerror}.",
            "Run as root or choose others with --data-dir and --run-dir.",
        ) from error


def _number(text: str) -> int:
    return int.from_bytes(bytes.fromhex(text)[::-1], "big")


def _prefix(mask: str) -> int:
    return _number(mask).bit_count()


def _address(text: str) -> None:
    try:
        ipaddress.ip_address(text)
    except ValueError as error:
        raise StartupError(f"{text!r} is no IP address.", "Give one that this host has.") from error
