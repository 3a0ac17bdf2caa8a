"""What a pod calls itself: host name, domain, and the host name that its processes see. Pure.

Called by `translate` for the sandbox and by `podfiles` for /etc/hosts.
"""

from orchestrator.agent import podspec
from orchestrator.agent.containers.env import ConfigError
from orchestrator.api.item import Object

HOSTNAME_MAX = 63
KERNEL_MAX = 64
"""What the kernel takes as a host name."""


def short_name(pod: Object) -> str:
    """`spec.hostnameOverride`, `spec.hostname` or the pod's name, cut to what a name in DNS may have."""
    spec = pod["spec"]
    if override := spec.get("hostnameOverride"):
        return str(override)
    return str(spec.get("hostname") or pod["metadata"]["name"])[:HOSTNAME_MAX].rstrip("-.")


def domain(pod: Object, cluster_domain: str) -> str:
    """The pod's domain in the cluster; empty without a subdomain."""
    spec = pod["spec"]
    if not spec.get("subdomain") or spec.get("hostnameOverride"):
        return ""
    return f"{spec['subdomain']}.{pod['metadata']['namespace']}.svc.{cluster_domain}"


def hostname(pod: Object, cluster_domain: str) -> str:
    """As processes see it: the full name where the pod wants that, empty with the host's network.

    Raises `ConfigError` for a name that the kernel does not take.
    """
    if podspec.is_host_network(pod):
        return ""
    name, of_pod = short_name(pod), domain(pod, cluster_domain)
    if pod["spec"].get("setHostnameAsFQDN") and of_pod:
        name = f"{name}.{of_pod}"
        if len(name) > KERNEL_MAX:
            raise ConfigError(
                f"failed to construct FQDN from pod hostname and cluster domain, FQDN {name} is too long "
                f"({KERNEL_MAX} characters is the max, {len(name)} characters requested)"
            )
    if len(name) > KERNEL_MAX:
        raise ConfigError(f"hostname {name} is too long ({KERNEL_MAX} characters is the max)")
    return name
