"""What is accepted in a pod's spec but deserves a `Warning` header. Pure, and cheap on ordinary specs."""

from orchestrator.api.item import Object

_DEPRECATED_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
}


def pod_spec_warnings(spec: Object, field: str) -> list[str]:
    """`field` is where the spec stands, such as `spec.template.spec`."""
    found = [
        f"{field}.nodeSelector[{key}]: {_DEPRECATED_LABELS[key]}"
        for key in spec.get("nodeSelector") or ()
        if key in _DEPRECATED_LABELS
    ]
    for kind in ("initContainers", "containers"):
        for at, container in enumerate(spec.get(kind) or ()):
            found += _container_warnings(container, f"{field}.{kind}[{at}]")
    grace_s = spec.get("terminationGracePeriodSeconds")
    if grace_s is not None and grace_s < 0:
        found.append(
            f"{field}.terminationGracePeriodSeconds: must be >= 0; negative values are invalid and will be treated as 1"
        )
    return found


def _container_warnings(container: Object, field: str) -> list[str]:
    found: list[str] = []
    seen: set[str] = set()
    for at, variable in enumerate(container.get("env") or ()):
        name = variable.get("name", "")
        if name in seen:
            found.append(
                f'{field}.env[{at}]: hides previous definition of "{name}", which may be dropped when using apply'
            )
        seen.add(name)
    ports: dict[tuple[str, int], int] = {}
    for at, port in enumerate(container.get("ports") or ()):
        key = (port.get("protocol", "TCP"), port.get("containerPort", 0))
        if key in ports:
            first = ports[key]
            found.append(f"{field}.ports[{at}]: duplicate port definition with {field}.ports[{first}]")
        ports.setdefault(key, at)
    return found
