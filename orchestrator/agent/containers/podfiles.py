"""Files that every container of a pod gets: resolv.conf, hosts, and the place of its termination message."""

from dataclasses import dataclass
from pathlib import Path

from orchestrator.agent import podspec
from orchestrator.agent.containers import naming
from orchestrator.api.item import Object
from orchestrator.runtime.interface import Mount

NAMESERVERS_MAX = 3
SEARCH_MAX = 32
SEARCH_CHARS_MAX = 2048
HOSTS = Path("/etc/hosts")
MANAGED = "# Kubernetes-managed hosts file"
LOCAL_HOSTS = (
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::0\tip6-localnet",
    "fe00::0\tip6-mcastprefix",
    "fe00::1\tip6-allnodes",
    "fe00::2\tip6-allrouters",
)
MESSAGE_BYTES_MAX = 4096


@dataclass(frozen=True, slots=True)
class DnsSettings:
    """How pods resolve names. `host_resolv_conf` is read anew for each pod that uses the node's."""

    server: str
    domain: str
    host_resolv_conf: Path = Path("/etc/resolv.conf")


@dataclass(slots=True)
class Resolv:
    """The content of a resolv.conf."""

    servers: list[str]
    searches: list[str]
    options: list[str]

    def text(self) -> str:
        lines = [f"nameserver {server}" for server in self.servers]
        if self.searches:
            lines.insert(0, "search " + " ".join(self.searches))
        if self.options:
            lines.append("options " + " ".join(self.options))
        return "\n".join(lines) + "\n"


def resolv_conf(pod: Object, dns: DnsSettings) -> str:
    """By `dnsPolicy`, with `dnsConfig` added, cut to what resolvers take."""
    return _fitting(_wanted(pod, dns)).text()


def dns_problems(pod: Object, dns: DnsSettings) -> list[str]:
    """What had to be left out of resolv.conf, in a kubelet's words for the event `DNSConfigForming`."""
    wanted, problems = _wanted(pod, dns), []
    applied = _fitting(wanted)
    for name, line, there, left in (
        ("Search Line", "search paths", wanted.searches, applied.searches),
        ("Nameserver", "nameservers", wanted.servers, applied.servers),
    ):
        if there != left:
            which = "search" if line == "search paths" else "nameserver"
            problems.append(
                f"{name} limits were exceeded, some {line} have been omitted, "
                f"the applied {which} line is: {' '.join(left)}"
            )
    return problems


def _wanted(pod: Object, dns: DnsSettings) -> Resolv:
    spec = pod["spec"]
    policy = spec.get("dnsPolicy", "ClusterFirst")
    if policy == "ClusterFirst" and podspec.is_host_network(pod):
        policy = "Default"
    if policy == "None":
        resolv = Resolv([], [], [])
    else:
        resolv = parse_resolv(_read(dns.host_resolv_conf))
        if policy in ("ClusterFirst", "ClusterFirstWithHostNet"):
            resolv = _cluster_first(pod["metadata"]["namespace"], dns, resolv)
    extra = spec.get("dnsConfig") or {}
    return Resolv(
        list(dict.fromkeys([*resolv.servers, *(extra.get("nameservers") or ())])),
        list(dict.fromkeys([*resolv.searches, *(extra.get("searches") or ())])),
        _merge_options(resolv.options, extra.get("options") or ()),
    )


def _fitting(resolv: Resolv) -> Resolv:
    searches = resolv.searches[:SEARCH_MAX]
    while len(" ".join(searches)) > SEARCH_CHARS_MAX:
        searches.pop()
    return Resolv(resolv.servers[:NAMESERVERS_MAX], searches, resolv.options)


def parse_resolv(text: str) -> Resolv:
    """Servers, search list and options of a resolv.conf."""
    resolv = Resolv([], [], [])
    for line in text.splitlines():
        words = line.split("#")[0].split(";")[0].split()
        if len(words) < 2:
            continue
        if words[0] == "nameserver":
            resolv.servers.append(words[1])
        elif words[0] in ("search", "domain"):
            resolv.searches = [word for word in words[1:] if word != "."]
        elif words[0] == "options":
            resolv.options.extend(words[1:])
    return resolv


def hosts(pod: Object, pod_ips: str, domain: str) -> str:
    """/etc/hosts of a pod with its own network. `pod_ips` are its addresses, separated by commas."""
    lines = [f"{MANAGED}.", *LOCAL_HOSTS]
    name, full = naming.short_name(pod), naming.domain(pod, domain)
    names = f"{name}.{full}\t{name}" if full else name
    lines += [f"{address}\t{names}" for address in pod_ips.split(",") if address]
    return "\n".join(lines) + "\n" + _aliases(pod)


def host_hosts(pod: Object, of_host: str) -> str:
    """/etc/hosts of a pod on the host's network: the host's own, with the pod's aliases."""
    return f"{MANAGED} (host network).\n{of_host}{_aliases(pod)}"


def _aliases(pod: Object) -> str:
    aliases = pod["spec"].get("hostAliases") or ()
    if not aliases:
        return ""
    lines = ["\t".join([alias["ip"], *(alias.get("hostnames") or ())]) for alias in aliases]
    return "\n# Entries added by HostAliases.\n" + "\n".join(lines) + "\n"


def write(pod: Object, pod_ip: str, directory: Path, dns: DnsSettings) -> None:
    """Write the pod's files; unchanged ones are left alone."""
    directory.mkdir(parents=True, exist_ok=True)
    _update(directory / "resolv.conf", resolv_conf(pod, dns))
    on_host = podspec.is_host_network(pod)
    text = host_hosts(pod, _read(HOSTS)) if on_host else hosts(pod, pod_ip, dns.domain)
    _update(directory / "hosts", text)


def mounts(container: Object, directory: Path, attempt: int) -> list[Mount]:
    """Mounts of these files, unless the container mounts something there itself."""
    message = termination_file(container["name"], directory, attempt)
    message.parent.mkdir(parents=True, exist_ok=True)
    message.touch()
    message.chmod(0o666)
    own = {mount["mountPath"].rstrip("/") for mount in container.get("volumeMounts") or ()}
    wanted = [
        Mount(str(directory / "resolv.conf"), "/etc/resolv.conf"),
        Mount(str(directory / "hosts"), "/etc/hosts"),
        Mount(str(message), container.get("terminationMessagePath") or "/dev/termination-log"),
    ]
    return [mount for mount in wanted if mount.container_path not in own]


def termination_file(name: str, directory: Path, attempt: int) -> Path:
    """Where one incarnation of a container writes its last words."""
    return directory / "containers" / name / str(attempt)


def read_termination_message(name: str, directory: Path, attempt: int) -> str:
    """Those last words, empty when there are none."""
    try:
        with termination_file(name, directory, attempt).open("rb") as file:
            return file.read(MESSAGE_BYTES_MAX).decode(errors="replace")
    except OSError:
        return ""


def _cluster_first(namespace: str, dns: DnsSettings, host: Resolv) -> Resolv:
    searches = [f"{namespace}.svc.{dns.domain}", f"svc.{dns.domain}", dns.domain, *host.searches]
    return Resolv(
        [dns.server],
        list(dict.fromkeys(searches)),
        ["ndots:5"],
    )


def _merge_options(options: list[str], extra: list[Object] | tuple[Object, ...]) -> list[str]:
    merged = {option.split(":")[0]: option for option in options}
    for option in extra:
        value = option.get("value")
        merged[option["name"]] = f"{option['name']}:{value}" if value else option["name"]
    return list(merged.values())


def _update(path: Path, text: str) -> None:
    """In place: the containers' bind mounts follow the inode."""
    if not path.exists() or path.read_text() != text:
        path.write_text(text)
        path.chmod(0o644)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
