"""Typed settings: one source of defaults for command line, config file and tests.

Every flag of the command line has a key here; the flag wins over the file, the file over the default.
"""

import ipaddress
import re
import tomllib
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from orchestrator.agent import settings as node
from orchestrator.agent.eviction import thresholds
from orchestrator.agent.node.stages import Stage, stages, stages_of
from orchestrator.base.errors import StartupError
from orchestrator.store.settings import LogSettings

DATA_DIR = Path("/var/lib/orchestrator")
DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")
DEFAULT_CONFIG_FILE = Path("/etc/orchestrator/config.toml")


_LOG = LogSettings()
_IMAGES = node.ImageSettings()
_KUBELET = node.KubeletSettings()


@dataclass(frozen=True, slots=True)
class Config:
    """Settings of one server with its agent. Durations in seconds, sizes in bytes."""

    data_dir: Path = DATA_DIR
    run_dir: Path = Path("/run/orchestrator")
    bind: str = "0.0.0.0"
    port: int = 6443
    advertise_address: str = ""
    """Where clients and pods reach the API; empty takes the address of the default route."""
    write_kubeconfig: Path = Path("/etc/orchestrator/admin.kubeconfig")
    node_name: str = ""
    """Empty takes the host name, in lower case."""
    node_ip: str = ""
    """Empty takes `advertise_address`."""
    agent_port: int = 10250
    local_path_dir: str = ""
    """Where volumes of the class `local-path` lie; empty takes `volumes` in `data_dir`."""
    device_plugin_dir: str = ""
    """Where device plugins register; empty takes `/var/lib/kubelet/device-plugins`, or `device-plugins` in a
    `data_dir` that is not the default one."""
    node_labels: tuple[str, ...] = ()
    """Further labels of the node, `key=value`."""
    register_taints: tuple[str, ...] = ()
    """Taints that a new node gets, `key=value:Effect`."""
    static_pod_path: str = ""
    """Directory, or file, of pods that the node runs by itself; empty for none."""
    shutdown_grace_period: int = 0
    shutdown_grace_period_critical_pods: int = 0
    """How long a shutdown of the host waits for pods, and the part of it that critical pods have; 0 does not wait."""
    shutdown_grace_period_by_pod_priority: tuple[str, ...] = ()
    """Instead of the two above: `priority=seconds`, each for pods of this priority up to the next one's."""
    max_pods: int = _KUBELET.max_pods
    pod_pids_limit: int = _KUBELET.pod_pids_limit
    """Most processes of one pod; 0 for a share of the kernel's, -1 for no limit."""
    allowed_unsafe_sysctls: tuple[str, ...] = ()
    """Sysctls that pods may set beside the safe ones; a `*` at the end stands for the rest of the name."""
    kube_reserved: tuple[str, ...] = ()
    system_reserved: tuple[str, ...] = ()
    """What pods don't get of the node, `resource=quantity`."""
    eviction_hard: tuple[str, ...] = thresholds.HARD
    eviction_soft: tuple[str, ...] = ()
    eviction_soft_grace_period: tuple[str, ...] = ()
    eviction_minimum_reclaim: tuple[str, ...] = ()
    eviction_max_pod_grace_period: int = _KUBELET.eviction.grace_max_s
    eviction_pressure_transition_period: int = int(_KUBELET.eviction.transition_s)
    """As a kubelet has them; see `eviction.thresholds`."""
    image_gc_high_threshold: int = _IMAGES.gc_high
    image_gc_low_threshold: int = _IMAGES.gc_low
    image_minimum_gc_age: int = int(_IMAGES.min_age_s)
    image_maximum_gc_age: int = int(_IMAGES.max_age_s)
    serialize_image_pulls: bool = False
    max_parallel_image_pulls: int = _IMAGES.pulls_max
    image_pull_credentials_verification: str = _IMAGES.verify
    image_pull_credentials_allowlist: tuple[str, ...] = ()
    registries: str = "/etc/orchestrator/registries.toml"
    """The file about mirrors, trust and logins of image registries, which need not be there."""
    scheduler_config: str = ""
    """Path of a KubeSchedulerConfiguration (YAML): profiles of the scheduler; empty for the default one."""
    images_dir: str = ""
    """Directory of image archives that are preloaded; empty takes `images` in `data_dir`."""
    no_agent: bool = False
    simulated_nodes: int = 0
    runtime: str = "auto"
    runtime_endpoint: str = ""
    pod_cidr: str = "10.42.0.0/16"
    service_cidr: str = "10.43.0.0/16"
    dns_address: str = "10.43.0.10"
    cluster_domain: str = "cluster.local"
    node_port_range: str = "30000-32767"
    store: str = "log"
    store_segment_bytes: int = _LOG.segment_bytes
    store_snapshot_bytes: int = _LOG.snapshot_bytes
    store_history_s: int = int(_LOG.history_s)
    store_history_bytes: int = _LOG.history_bytes
    store_history_memory_bytes: int = _LOG.history_memory_bytes
    """Of the log; see `LogSettings`."""
    etcd_endpoints: tuple[str, ...] = ()
    etcd_ca: str = ""
    """Path of the CA (PEM) of etcd's certificate; empty trusts the system's."""
    etcd_cert: str = ""
    etcd_key: str = ""
    """Paths of the client certificate and its key (PEM), where etcd asks for one."""
    etcd_user: str = ""
    etcd_password_file: str = ""
    etcd_prefix: str = "/registry"
    """Where the store's keys lie in etcd."""
    encrypt: tuple[str, ...] = ()
    """Resources whose values are encrypted on disk: `secrets`, `<group>/<resource>`. Empty: none."""
    encryption_keys: str = ""
    """Path of the keys for that; empty takes `encryption-keys.json` in `data_dir`."""
    log_level: str = "info"
    log_format: str = "auto"
    tls_names: tuple[str, ...] = field(default=())
    """Further host names and addresses for the server's certificate."""

    def check(self) -> None:
        """Raise `StartupError` for values that can't work, before anything is changed."""
        pods = _network(self.pod_cidr, "pod_cidr")
        services = _network(self.service_cidr, "service_cidr")
        if pods.overlaps(services):
            raise StartupError(
                f"pod_cidr {pods} and service_cidr {services} overlap.",
                "Choose two ranges that do not overlap.",
            )
        if _address(self.dns_address, "dns_address") not in services:
            raise StartupError(
                f"dns_address {self.dns_address} is outside service_cidr {services}.",
                "Choose an address inside the service range, usually its tenth.",
            )
        for name in ("port", "agent_port"):
            if not 0 <= getattr(self, name) <= 65535:
                raise StartupError(
                    f"{name} {getattr(self, name)} is no port.", "Ports are 0 (any free) to 65535."
                )
        _choice(self.runtime, "runtime", ("auto", "docker", "containerd", "simulated"))
        _choice(self.store, "store", ("log", "etcd"))
        self._check_etcd()
        self.log_settings()
        self.kubelet_settings()
        if self.local_path_dir and not Path(self.local_path_dir).is_absolute():
            raise StartupError(
                f"local_path_dir {self.local_path_dir!r} is no absolute path.", "Write it from the root on."
            )
        _choice(self.log_level, "log_level", ("debug", "info", "warning", "error"))
        _choice(self.log_format, "log_format", ("auto", "json", "console"))
        self.node_ports()

    def volumes_dir(self) -> Path:
        """Where this host's volumes of the class `local-path` lie, from the root on."""
        return Path(self.local_path_dir or self.data_dir / "volumes").absolute()

    def device_plugins(self) -> Path:
        """Where device plugins find us: the usual place, unless this is not the host's main instance."""
        if self.device_plugin_dir:
            return Path(self.device_plugin_dir).absolute()
        if self.data_dir == DATA_DIR:
            return DEVICE_PLUGINS
        return (self.data_dir / "device-plugins").absolute()

    def log_settings(self) -> LogSettings:
        """What the settings that begin with `store_` say. Raises `StartupError` for one out of bounds."""
        return LogSettings(
            segment_bytes=self.store_segment_bytes,
            snapshot_bytes=self.store_snapshot_bytes,
            history_s=float(self.store_history_s),
            history_bytes=self.store_history_bytes,
            history_memory_bytes=self.store_history_memory_bytes,
        )

    def shutdown_stages(self) -> tuple[Stage, ...]:
        """In which order pods stop before the host goes down; none for not at all."""
        if self.shutdown_grace_period_by_pod_priority:
            return stages_of(self.shutdown_grace_period_by_pod_priority)
        return stages(self.shutdown_grace_period, self.shutdown_grace_period_critical_pods)

    def kubelet_settings(self) -> node.KubeletSettings:
        """What the settings say about this host's node. Raises `StartupError` for one that can't be used."""
        self._check_shutdown()
        if self.max_pods < 1:
            raise StartupError(f"max_pods is {self.max_pods}.", "Give a number above 0.")
        return node.KubeletSettings(
            labels=node.labels_of(self.node_labels),
            taints=node.taints_of(self.register_taints),
            max_pods=self.max_pods,
            pod_pids_limit=self.pod_pids_limit,
            unsafe_sysctls=node.sysctls_of(self.allowed_unsafe_sysctls),
            reserved=tuple(
                node.reserved_of(getattr(self, name), name) for name in ("kube_reserved", "system_reserved")
            ),
            images=node.ImageSettings(
                gc_high=self.image_gc_high_threshold,
                gc_low=self.image_gc_low_threshold,
                min_age_s=self.image_minimum_gc_age,
                max_age_s=self.image_maximum_gc_age,
                pulls_max=1 if self.serialize_image_pulls else self.max_parallel_image_pulls,
                verify=self.image_pull_credentials_verification,
                verify_allowlist=self.image_pull_credentials_allowlist,
            ),
            eviction=node.EvictionSettings(
                thresholds=thresholds.parse(
                    self.eviction_hard,
                    self.eviction_soft,
                    self.eviction_soft_grace_period,
                    self.eviction_minimum_reclaim,
                ),
                grace_max_s=self.eviction_max_pod_grace_period,
                transition_s=self.eviction_pressure_transition_period,
            ),
        )

    def _check_shutdown(self) -> None:
        if not 0 <= self.shutdown_grace_period_critical_pods <= self.shutdown_grace_period:
            raise StartupError(
                f"shutdown_grace_period_critical_pods is {self.shutdown_grace_period_critical_pods}.",
                f"Give seconds from 0 to shutdown_grace_period, which is {self.shutdown_grace_period}.",
            )
        if self.shutdown_grace_period and self.shutdown_grace_period_by_pod_priority:
            raise StartupError(
                "shutdown_grace_period and shutdown_grace_period_by_pod_priority are both set.",
                "Set one of the two.",
            )
        self.shutdown_stages()

    def _check_etcd(self) -> None:
        if self.store == "etcd" and not self.etcd_endpoints:
            raise StartupError(
                "store is etcd, but no etcd is named.", "Name its servers: --etcd-endpoints https://a:2379,…"
            )
        for endpoint in self.etcd_endpoints:
            scheme, _, address = endpoint.partition("://")
            if scheme not in ("http", "https") or not re.fullmatch(r"[^/@\s]+:\d+/?", address):
                raise StartupError(f"{endpoint!r} is no endpoint of etcd.", "Write it as https://host:2379.")
        if bool(self.etcd_cert) != bool(self.etcd_key):
            raise StartupError("Of etcd_cert and etcd_key only one is set.", "Set both or none.")
        if bool(self.etcd_user) != bool(self.etcd_password_file):
            raise StartupError("Of etcd_user and etcd_password_file only one is set.", "Set both or none.")
        taken = f"{self.etcd_prefix}/".startswith("/orchestrator/")
        if taken or not re.fullmatch(r"(/[\w.-]+)+", self.etcd_prefix):
            raise StartupError(
                f"etcd_prefix {self.etcd_prefix!r} can't be used.",
                "Write it as /registry: with a slash before, none behind; /orchestrator is taken.",
            )

    def node_ports(self) -> range:
        """The node ports that may be handed out."""
        low, _, high = self.node_port_range.partition("-")
        if not (low.isdigit() and high.isdigit() and 0 < int(low) <= int(high) <= 65535):
            raise StartupError(
                f"node_port_range {self.node_port_range!r} is no range of ports.", "Write it as 30000-32767."
            )
        return range(int(low), int(high) + 1)


def load(file: Path | None, flags: dict[str, Any]) -> Config:
    """Defaults, then `file` (the default file if it exists, when None), then `flags` that are not None.

    Raises `StartupError` naming an unreadable file, an unknown key or a value of the wrong type.
    """
    path = file or (DEFAULT_CONFIG_FILE if DEFAULT_CONFIG_FILE.exists() else None)
    known = sorted(f.name for f in fields(Config))
    config = Config()
    # One after the other, so that a fault in the file is told even where a flag wins.
    for source, settings in ((path, _read(path) if path else {}), ("command line", flags)):
        for key, value in settings.items():
            if key not in known:
                raise StartupError(
                    f"{source}: unknown setting {key!r}.", f"Known settings: {', '.join(known)}."
                )
            if value is not None:
                config = replace(config, **{key: _typed(f"{source}: {key}", value, getattr(config, key))})
    return config


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise StartupError(f"{path}: {error.strerror}.", "Give an existing file with --config.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartupError(
            f"{path} is not valid TOML: {error}.", "Correct the line that is named."
        ) from error


_TYPES: dict[type, str] = {
    Path: "a path, as a string",
    tuple: "a list of strings",
    str: "a string",
    int: "a whole number",
    bool: "true or false",
}


def _typed(key: str, value: Any, default: Any) -> Any:
    wanted = Path if isinstance(default, Path) else type(default)
    if wanted is Path and isinstance(value, str | Path):
        return Path(value)
    if wanted is tuple and isinstance(value, list | tuple) and all(isinstance(v, str) for v in value):
        return tuple(value)
    if type(value) is wanted:
        return value
    raise StartupError(f"{key} is {value!r}.", f"It must be {_TYPES[wanted]}.")


def _network(text: str, name: str) -> ipaddress.IPv4Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise StartupError(f"{name} {text!r} is no network: {error}.", "Write it as 10.42.0.0/16.") from error
    if not isinstance(network, ipaddress.IPv4Network):
        raise StartupError(
            f"{name} {text} is an IPv6 range; this version's network is IPv4 only.",
            "Write it as 10.42.0.0/16.",
        )
    return network


def _address(text: str, name: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(text)
    except ValueError as error:
        raise StartupError(f"{name} {text!r} is no address.", "Write it as 10.43.0.10.") from error


def _choice(value: str, name: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise StartupError(f"{name} is {value!r}.", f"Choose one of {', '.join(choices)}.")
