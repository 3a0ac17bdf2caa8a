"""The scheduler's rules once more: node by node, over plain objects, slowly. The tests' measure of the real ones.

Written from Kubernetes' documentation and behaviour, sharing no code with `orchestrator.scheduler`; the rules are one
function each, so that a test can leave one out.
"""

import math
from dataclasses import dataclass, field
from fractions import Fraction

HARD = ("NoSchedule", "NoExecute")
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
MIB = 2**20
WEIGHTS = {
    "TaintToleration": 3, "NodeAffinity": 2, "NodeResourcesFit": 1, "PodTopologySpread": 2, "InterPodAffinity": 2,
    "NodeResourcesBalancedAllocation": 1, "ImageLocality": 1,
}  # fmt: skip


@dataclass
class World:
    nodes: dict = field(default_factory=dict)
    placed: dict = field(default_factory=dict)  # name of the pod -> (pod, node name)
    namespaces: dict = field(default_factory=dict)
    claims: dict = field(default_factory=dict)
    volumes: dict = field(default_factory=dict)
    classes: dict = field(default_factory=dict)
    limits: dict = field(default_factory=dict)  # node -> driver -> count
    companions: object = None  # pod -> labels that select it, or None

    def on(self, name):
        return [pod for pod, node in self.placed.values() if node == name]

    def here(self):
        """Placed pods whose node exists."""
        return [(pod, self.nodes[node]) for pod, node in self.placed.values() if node in self.nodes]


def labels(obj):
    return obj["metadata"].get("labels") or {}


# ── selectors ───────────────────────────────────────────────────────────────────────────────────────────


def expression(entry, found):
    value, operator, values = found.get(entry["key"]), entry["operator"], entry.get("values") or []
    if operator == "In":
        return value in values if value is not None else False
    if operator == "NotIn":
        return value not in values
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    return value is not None and (
        int(value) > int(values[0]) if operator == "Gt" else int(value) < int(values[0])
    )


def selects(selector, found):
    if selector is None:
        return False
    plain = all(found.get(k) == v for k, v in (selector.get("matchLabels") or {}).items())
    return plain and all(expression(entry, found) for entry in selector.get("matchExpressions") or [])


def node_term(term, node):
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    if not expressions and not fields:
        return False
    named = {"metadata.name": node["metadata"]["name"]}
    return all(expression(e, labels(node)) for e in expressions) and all(expression(f, named) for f in fields)


def affinity_of(pod, kind):
    return (pod["spec"].get("affinity") or {}).get(kind) or {}


def admits(pod, node):
    if any(labels(node).get(k) != v for k, v in (pod["spec"].get("nodeSelector") or {}).items()):
        return False
    required = affinity_of(pod, "nodeAffinity").get(REQUIRED)
    return required is None or any(node_term(term, node) for term in required["nodeSelectorTerms"])


def covers(toleration, taint):
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")


def tolerates(pod, taint):
    return any(covers(toleration, taint) for toleration in pod["spec"].get("tolerations") or [])


def hard_taints(node):
    return [taint for taint in node["spec"].get("taints") or [] if taint["effect"] in HARD]


# ── amounts ─────────────────────────────────────────────────────────────────────────────────────────────


def units(name, text):
    factor = {"m": Fraction(1, 1000), "Mi": MIB, "Gi": 1024 * MIB}
    for suffix, times in factor.items():
        if str(text).endswith(suffix):
            value = Fraction(str(text)[: -len(suffix)]) * times
            break
    else:
        value = Fraction(str(text))
    return math.ceil(value * 1000) if name == "cpu" else math.ceil(value)


def asked(container, missing):
    requests = (container.get("resources") or {}).get("requests") or {}
    found = {name: units(name, value) for name, value in requests.items()}
    return {**missing, **found}


def wants(pod, missing=None):
    """Containers and sidecars together, or an init container with the sidecars before it, whichever is more."""
    missing = missing or {}
    spec = pod["spec"]
    main, sidecars, peaks = [asked(c, missing) for c in spec["containers"]], [], []
    for container in spec.get("initContainers") or []:
        if container.get("restartPolicy") == "Always":
            sidecars.append(asked(container, missing))
            peaks.append(list(sidecars))
        else:
            peaks.append([*sidecars, asked(container, missing)])
    groups = [[*main, *sidecars], *peaks]
    names = {name for group in groups for amounts in group for name in amounts}
    total = {name: max(sum(a.get(name, 0) for a in group) for group in groups) for name in names}
    for name, value in ((spec.get("resources") or {}).get("requests") or {}).items():
        total[name] = units(name, value)
    for name, value in (spec.get("overhead") or {}).items():
        total[name] = total.get(name, 0) + units(name, value)
    return total


def has(node):
    return {name: units(name, value) for name, value in node["status"]["allocatable"].items()}


def scored(pod):
    defaults = wants(pod, {"cpu": 100, "memory": 200 * MIB})
    return {name: defaults.get(name, 0) for name in ("cpu", "memory")}


# ── filters: (world, pod, node) -> fits ─────────────────────────────────────────────────────────────────


def node_unschedulable(world, pod, node):
    cordon = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}
    return not node["spec"].get("unschedulable") or tolerates(pod, cordon)


def node_name(world, pod, node):
    return pod["spec"].get("nodeName") in (None, "", node["metadata"]["name"])


def taint_toleration(world, pod, node):
    return all(tolerates(pod, taint) for taint in hard_taints(node))


def node_affinity(world, pod, node):
    return admits(pod, node)


def ports(pod):
    return [
        (port.get("hostIP") or "0.0.0.0", port.get("protocol", "TCP"), port["hostPort"])
        for container in pod["spec"]["containers"]
        for port in container.get("ports") or []
        if port.get("hostPort")
    ]


def node_ports(world, pod, node):
    for address, protocol, port in ports(pod):
        for other in world.on(node["metadata"]["name"]):
            for address2, protocol2, port2 in ports(other):
                same = address == address2 or "0.0.0.0" in (address, address2)
                if (protocol, port) == (protocol2, port2) and same:
                    return False
    return True


def fit(world, pod, node):
    there = world.on(node["metadata"]["name"])
    room = has(node)
    if len(there) + 1 > room.get("pods", 0):
        return False
    for name, amount in wants(pod).items():
        if amount and sum(wants(other).get(name, 0) for other in there) + amount > room.get(name, 0):
            return False
    return True


def disks(pod):
    for volume in pod["spec"].get("volumes") or []:
        for kind, key in (
            ("gcePersistentDisk", "pdName"),
            ("awsElasticBlockStore", "volumeID"),
            ("iscsi", "iqn"),
        ):
            if volume.get(kind):
                read_only = kind != "awsElasticBlockStore" and volume[kind].get("readOnly", False)
                yield (kind, volume[kind][key]), read_only


def claim_names(pod):
    return [
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["spec"].get("volumes") or []
        if volume.get("persistentVolumeClaim")
    ]


def claims(world, pod):
    return [world.claims.get(f"{pod['metadata']['namespace']}/{name}") for name in claim_names(pod)]


def volume_restrictions(world, pod, node):
    for other in world.on(node["metadata"]["name"]):
        for disk, read_only in disks(pod):
            if any(disk == disk2 and not (read_only and ro2) for disk2, ro2 in disks(other)):
                return False
    for claim in claims(world, pod):
        if claim and "ReadWriteOncePod" in claim["spec"]["accessModes"]:
            for other, _ in world.placed.values():
                same = other["metadata"]["namespace"] == claim["metadata"]["namespace"]
                if same and claim["metadata"]["name"] in claim_names(other):
                    return False
    return True


def handles(world, pod):
    found = set()
    for claim in claims(world, pod):
        if claim is None:
            continue
        volume = world.volumes.get(claim["spec"].get("volumeName"))
        if volume is not None:
            if "csi" in volume["spec"]:
                found.add((volume["spec"]["csi"]["driver"], volume["spec"]["csi"]["volumeHandle"]))
        elif claim["spec"].get("storageClassName") in world.classes:
            key = f"{claim['metadata']['namespace']}/{claim['metadata']['name']}"
            found.add((world.classes[claim["spec"]["storageClassName"]]["provisioner"], key))
    return found


def node_volume_limits(world, pod, node):
    name = node["metadata"]["name"]
    attached = set().union(*(handles(world, other) for other in world.on(name))) if world.on(name) else set()
    new = handles(world, pod) - attached
    for driver, limit in world.limits.get(name, {}).items():
        more = sum(d == driver for d, _ in new)
        if more and sum(d == driver for d, _ in attached) + more > limit:
            return False
    return True


def is_bound(claim):
    return bool(claim["spec"].get("volumeName"))


def volume_binding(world, pod, node):
    taken, waiting = set(), []
    for claim in claims(world, pod):
        if claim is None:
            return False
        if is_bound(claim):
            volume = world.volumes.get(claim["spec"]["volumeName"])
            if volume is None or not reaches(volume, node):
                return False
        elif world.classes[claim["spec"]["storageClassName"]]["volumeBindingMode"] != "WaitForFirstConsumer":
            return False
        else:
            waiting.append(claim)
    for claim in sorted(waiting, key=size):
        suited = [
            v for v in world.volumes.values() if suits(v, claim, node) and v["metadata"]["name"] not in taken
        ]
        if suited:
            best = min(
                suited, key=lambda v: (len(v["spec"]["accessModes"]), capacity(v), v["metadata"]["name"])
            )
            taken.add(best["metadata"]["name"])
        elif (
            world.classes[claim["spec"]["storageClassName"]]["provisioner"] == "kubernetes.io/no-provisioner"
        ):
            return False
    return True


def size(claim):
    return units("storage", claim["spec"]["resources"]["requests"]["storage"])


def capacity(volume):
    return units("storage", volume["spec"]["capacity"]["storage"])


def reaches(volume, node):
    required = (volume["spec"].get("nodeAffinity") or {}).get("required")
    return required is None or any(node_term(term, node) for term in required["nodeSelectorTerms"])


def suits(volume, claim, node):
    spec, wanted = volume["spec"], claim["spec"]
    return (
        not spec.get("claimRef")
        and spec.get("storageClassName") == wanted.get("storageClassName")
        and set(wanted["accessModes"]) <= set(spec["accessModes"])
        and capacity(volume) >= size(claim)
        and reaches(volume, node)
    )


def volume_zone(world, pod, node):
    zones = (ZONE, "topology.kubernetes.io/region")
    if not any(key in labels(node) for key in zones):
        return True
    for claim in claims(world, pod):
        volume = world.volumes.get(claim["spec"].get("volumeName")) if claim else None
        for key in zones if volume else ():
            if key in labels(volume) and labels(node).get(key) not in labels(volume)[key].split("__"):
                return False
    return True


# ── spread ──────────────────────────────────────────────────────────────────────────────────────────────


def constraints(world, pod, when):
    own = pod["spec"].get("topologySpreadConstraints") or []
    if own:
        return [c for c in own if c["whenUnsatisfiable"] == when], True
    companions = world.companions(pod) if world.companions and when == "ScheduleAnyway" else None
    if companions is None:
        return [], True
    selector = {"matchLabels": companions}
    return [
        {"topologyKey": HOSTNAME, "maxSkew": 3, "labelSelector": selector},
        {"topologyKey": ZONE, "maxSkew": 5, "labelSelector": selector},
    ], False


def with_keys(constraint, pod):
    selector = constraint.get("labelSelector")
    added = {k: labels(pod)[k] for k in constraint.get("matchLabelKeys") or [] if k in labels(pod)}
    if selector is None or not added:
        return selector
    extra = [{"key": k, "operator": "In", "values": [v]} for k, v in added.items()]
    return {**selector, "matchExpressions": [*(selector.get("matchExpressions") or []), *extra]}


def counted(world, pod, constraint, node):
    """Companions on one node."""
    selector = with_keys(constraint, pod)
    if not selector or not (selector.get("matchLabels") or selector.get("matchExpressions")):
        return 0
    return sum(
        other["metadata"]["namespace"] == pod["metadata"]["namespace"]
        and "deletionTimestamp" not in other["metadata"]
        and selects(selector, labels(other))
        for other in world.on(node["metadata"]["name"])
    )


def included(constraint, pod, node):
    if constraint.get("nodeAffinityPolicy", "Honor") == "Honor" and not admits(pod, node):
        return False
    honor = constraint.get("nodeTaintsPolicy", "Ignore") == "Honor"
    return not honor or all(tolerates(pod, taint) for taint in hard_taints(node))


def topology_spread(world, pod, node):
    wanted, _ = constraints(world, pod, "DoNotSchedule")
    keys = [c["topologyKey"] for c in wanted]
    for constraint in wanted:
        key = constraint["topologyKey"]
        if key not in labels(node):
            return False
        domains = {}
        for other in world.nodes.values():
            if all(k in labels(other) for k in keys) and included(constraint, pod, other):
                value = labels(other)[key]
                domains[value] = domains.get(value, 0) + counted(world, pod, constraint, other)
        least = (
            min(domains.values()) if domains and len(domains) >= (constraint.get("minDomains") or 1) else 0
        )
        me = selects(with_keys(constraint, pod), labels(pod))
        if domains.get(labels(node)[key], 0) + me - least > constraint["maxSkew"]:
            return False
    return True


def spread_scores(world, pod, fitting):
    wanted, required = constraints(world, pod, "ScheduleAnyway")
    if not wanted:
        return dict.fromkeys(fitting, 0)
    keys = [c["topologyKey"] for c in wanted]
    ignored = {n for n, node in fitting.items() if required and not all(k in labels(node) for k in keys)}
    raw = {}
    for name in [n for n in fitting if n not in ignored]:
        total = 0.0
        for constraint in wanted:
            key = constraint["topologyKey"]
            others = [node for n, node in fitting.items() if n not in ignored]
            domains = {labels(node).get(key) for node in others}
            weight = math.log((len(others) if key == HOSTNAME else len(domains)) + 2)
            value = labels(fitting[name]).get(key)
            if value is None:
                continue
            companions = sum(
                counted(world, pod, constraint, node)
                for node in world.nodes.values()
                if labels(node).get(key) == value
                and (key != HOSTNAME or node is fitting[name])
                and (not required or all(k in labels(node) for k in keys))
                and (key == HOSTNAME or included(constraint, pod, node))
            )
            total += companions * weight + (constraint["maxSkew"] - 1)
        raw[name] = math.floor(total + 0.5)
    least, most = min(raw.values(), default=0), max(raw.values(), default=0)
    return {n: 0 if n in ignored else 100 * (most + least - raw[n]) // most if most else 100 for n in fitting}


# ── other pods ──────────────────────────────────────────────────────────────────────────────────────────


def reached(world, owner, term, other):
    """Whether a term of `owner` means `other`."""
    names = term.get("namespaces") or []
    others = term.get("namespaceSelector")
    if not names and others is None:
        names = [owner["metadata"]["namespace"]]
    namespace = other["metadata"]["namespace"]
    inside = namespace in names or selects(others, world.namespaces.get(namespace, {}))
    return inside and selects(term.get("labelSelector"), labels(other))


def same_domain(term, node, other):
    key = term["topologyKey"]
    return key in labels(node) and labels(node)[key] == labels(other).get(key)


def inter_pod(world, pod, node):
    terms = affinity_of(pod, "podAffinity").get(REQUIRED) or []
    friends = [(o, n) for o, n in world.here() if all(reached(world, pod, term, o) for term in terms)]
    anywhere = any(term["topologyKey"] in labels(n) for _, n in friends for term in terms)
    myself = all(reached(world, pod, term, pod) for term in terms)
    for term in terms:
        if term["topologyKey"] not in labels(node):
            return False
        near = any(same_domain(term, node, n) for _, n in friends)
        if not near and not (myself and not anywhere):
            return False
    for term in affinity_of(pod, "podAntiAffinity").get(REQUIRED) or []:
        if any(reached(world, pod, term, o) and same_domain(term, node, n) for o, n in world.here()):
            return False
    return not any(
        reached(world, o, term, pod) and same_domain(term, node, n)
        for o, n in world.here()
        for term in affinity_of(o, "podAntiAffinity").get(REQUIRED) or []
    )


def preferred(pod):
    for kind, sign in (("podAffinity", 1), ("podAntiAffinity", -1)):
        for entry in affinity_of(pod, kind).get(PREFERRED) or []:
            yield entry["podAffinityTerm"], sign * entry["weight"]


def inter_pod_scores(world, pod, fitting):
    raw = {}
    for name, node in fitting.items():
        raw[name] = 0
        for other, there in world.here():
            pairs = [(pod, t, other, w) for t, w in preferred(pod)]
            pairs += [(other, t, pod, w) for t, w in preferred(other)]
            pairs += [(other, t, pod, 1) for t in affinity_of(other, "podAffinity").get(REQUIRED) or []]
            raw[name] += sum(
                w
                for owner, t, about, w in pairs
                if reached(world, owner, t, about) and same_domain(t, node, there)
            )
    least, most = min(raw.values()), max(raw.values())
    return {n: int(100 * ((v - least) / (most - least))) if most > least else 0 for n, v in raw.items()}


# ── other scores ────────────────────────────────────────────────────────────────────────────────────────


def scaled(raw, down=False):
    most = max(raw.values())
    part = {name: value * 100 // most if most else 0 for name, value in raw.items()}
    return {name: 100 - value for name, value in part.items()} if down else part


def taint_scores(world, pod, fitting):
    soft = [
        t for t in pod["spec"].get("tolerations") or [] if t.get("effect") in (None, "", "PreferNoSchedule")
    ]
    bad = {
        name: sum(
            taint["effect"] == "PreferNoSchedule" and not any(covers(t, taint) for t in soft)
            for taint in node["spec"].get("taints") or []
        )
        for name, node in fitting.items()
    }
    return scaled(bad, down=True)


def node_affinity_scores(world, pod, fitting):
    entries = affinity_of(pod, "nodeAffinity").get(PREFERRED) or []
    return scaled({
        name: sum(entry["weight"] for entry in entries if node_term(entry["preference"], node))
        for name, node in fitting.items()
    })  # fmt: skip


def least_allocated(world, pod, fitting):
    found = {}
    for name, node in fitting.items():
        parts = []
        for resource in ("cpu", "memory"):
            whole = has(node).get(resource, 0)
            used = sum(scored(other)[resource] for other in [*world.on(name), pod])
            if whole:
                parts.append(max(whole - used, 0) * 100 // whole)
        found[name] = sum(parts) // len(parts) if parts else 0
    return found


def balanced(world, pod, fitting):
    mine = wants(pod)
    if not mine.get("cpu") and not mine.get("memory"):
        return dict.fromkeys(fitting, 0)
    found = {}
    for name, node in fitting.items():
        shares = []
        for resource in ("cpu", "memory"):
            whole = has(node).get(resource, 0)
            used = sum(wants(other).get(resource, 0) for other in [*world.on(name), pod])
            if whole:
                shares.append(min(used / whole, 1.0))
        apart = abs((shares[0] - shares[1]) / 2) if len(shares) == 2 else 0.0
        found[name] = int((1 - apart) * 100)
    return found


def image_scores(world, pod, fitting):
    spec = pod["spec"]
    wanted = [c["image"] for c in [*(spec.get("initContainers") or []), *spec["containers"]]]
    wanted = [image if ":" in image.rpartition("/")[2] else f"{image}:latest" for image in wanted]

    def sizes(node):
        return {n: image["sizeBytes"] for image in node["status"].get("images") or [] for n in image["names"]}

    found = {}
    for name, node in fitting.items():
        total = 0
        for image in wanted:
            holders = sum(image in sizes(other) for other in world.nodes.values())
            if image in sizes(node):
                total += int(sizes(node)[image] * (holders / len(world.nodes)))
        most = 1000 * MIB * len(wanted)
        found[name] = 100 * (min(max(total, 23 * MIB), most) - 23 * MIB) // (most - 23 * MIB)
    return found


FILTERS = {
    "NodeUnschedulable": node_unschedulable, "NodeName": node_name, "TaintToleration": taint_toleration,
    "NodeAffinity": node_affinity, "NodePorts": node_ports, "NodeResourcesFit": fit,
    "VolumeRestrictions": volume_restrictions, "NodeVolumeLimits": node_volume_limits,
    "VolumeBinding": volume_binding, "VolumeZone": volume_zone, "PodTopologySpread": topology_spread,
    "InterPodAffinity": inter_pod,
}  # fmt: skip
SCORES = {
    "TaintToleration": taint_scores, "NodeAffinity": node_affinity_scores, "NodeResourcesFit": least_allocated,
    "PodTopologySpread": spread_scores, "InterPodAffinity": inter_pod_scores,
    "NodeResourcesBalancedAllocation": balanced, "ImageLocality": image_scores,
}  # fmt: skip


def fitting(world, pod):
    return {
        name: node
        for name, node in world.nodes.items()
        if all(rule(world, pod, node) for rule in FILTERS.values())
    }


def parts(world, pod, nodes):
    """Weighted scores by plugin for the nodes that fit."""
    if not nodes:
        return {}
    return {
        plugin: {name: WEIGHTS[plugin] * score for name, score in rule(world, pod, nodes).items()}
        for plugin, rule in SCORES.items()
    }


def best(world, pod):
    """The set of best nodes."""
    return _best(world, pod, fitting(world, pod))


def deciding(world, pod):
    """The plugins without which other nodes would be the best."""
    verdicts = {
        p: {n for n, node in world.nodes.items() if rule(world, pod, node)} for p, rule in FILTERS.items()
    }
    every = set.intersection(*verdicts.values())
    chosen = _best(world, pod, {name: world.nodes[name] for name in every})
    found = set()
    for plugin in {*FILTERS, *SCORES}:
        names = set.intersection(*(fits for other, fits in verdicts.items() if other != plugin))
        if names == every and plugin not in SCORES:
            continue
        if _best(world, pod, {name: world.nodes[name] for name in names}, plugin) != chosen:
            found.add(plugin)
    return found


def _best(world, pod, nodes, without=""):
    kept = {plugin: WEIGHTS[plugin] for plugin in SCORES if plugin != without}
    scores = [(weight, SCORES[plugin](world, pod, nodes)) for plugin, weight in kept.items() if nodes]
    totals = {name: sum(weight * found[name] for weight, found in scores) for name in nodes}
    return {name for name, total in totals.items() if total == max(totals.values())}
