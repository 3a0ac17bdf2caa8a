"""Random clusters, and the same cluster told to the oracle and to the columns. Few values, so that much collides."""

import itertools

from orchestrator.api.item import Item, encode
from orchestrator.api.selectors import from_set
from orchestrator.scheduler.decide import Decider
from orchestrator.scheduler.profiles import Profile, plugins_of
from orchestrator.scheduler.rules.columns import Columns
from orchestrator.scheduler.rules.infos import NodeInfo, PodInfo
from tests.unit.scheduler import oracle

KEYS, VALUES = ("a", "b"), ("1", "2", "3")
NAMESPACES = {"x": {"team": "1"}, "y": {"team": "2"}}
ZONES = ("z1", "z2", "z3")
TAINTED = (("k", "1"), ("k", "2"), ("l", "1"))
EFFECTS = ("NoSchedule", "NoExecute", "PreferNoSchedule")
IMAGES = {"big:1": 900 * oracle.MIB, "small:latest": 120 * oracle.MIB}
CLASSES = {
    "now": {"provisioner": "made.example.com", "volumeBindingMode": "Immediate"},
    "later": {"provisioner": "made.example.com", "volumeBindingMode": "WaitForFirstConsumer"},
    "local": {"provisioner": "kubernetes.io/no-provisioner", "volumeBindingMode": "WaitForFirstConsumer"},
}


class Maker:
    """Objects drawn from a random generator."""

    def __init__(self, rng):
        self.rng = rng
        self.serial = itertools.count(1)

    def chance(self, percent):
        return self.rng.random() * 100 < percent

    def pick(self, *values):
        return self.rng.choice(values)

    def labels(self):
        return {key: self.pick(*VALUES) for key in KEYS if self.chance(65)}

    # ── nodes ──

    def node(self, name):
        found = {**self.labels(), oracle.HOSTNAME: name}
        if self.chance(85):
            found[oracle.ZONE] = self.pick(*ZONES)
        if self.chance(3):
            del found[oracle.HOSTNAME]
        spec = {}
        if self.chance(8):
            spec["unschedulable"] = True
        if self.chance(30):
            key, value = self.pick(*TAINTED)
            spec["taints"] = [{"key": key, "value": value, "effect": self.pick(*EFFECTS, "PreferNoSchedule")}]
        room = {
            "cpu": self.pick("2", "4", "8"), "memory": self.pick("2Gi", "8Gi", "16Gi"), "pods": self.pick("3", "30"),
        }  # fmt: skip
        if self.chance(30):
            room["example.com/gpu"] = self.pick("1", "2")
        images = [{"names": [n], "sizeBytes": size} for n, size in IMAGES.items() if self.chance(50)]
        status = {"allocatable": room, "images": images}
        return {"metadata": {"name": name, "labels": found}, "spec": spec, "status": status}

    # ── pods ──

    def expression(self, node=False):
        operator = self.pick("In", "In", "NotIn", "Exists", "DoesNotExist", *(("Gt", "Lt") if node else ()))
        found = {"key": self.pick(*KEYS), "operator": operator}
        if operator in ("In", "NotIn"):
            found["values"] = self.rng.sample(VALUES, self.pick(1, 2))
        elif operator in ("Gt", "Lt"):
            found["values"] = [self.pick(*VALUES)]
        return found

    def selector(self):
        if self.chance(5):
            return {}
        if self.chance(25):
            return {"matchExpressions": [self.expression()]}
        return {"matchLabels": {"app": self.pick("p", "q", "r")}}

    def node_affinity(self, names):
        found = {}
        if self.chance(50):
            terms = [{"matchExpressions": [self.expression(node=True)]} for _ in range(self.pick(1, 2))]
            if self.chance(15) and names:
                field = {
                    "key": "metadata.name",
                    "operator": self.pick("In", "NotIn"),
                    "values": [self.pick(*names)],
                }
                terms.append({"matchFields": [field]})
            found[oracle.REQUIRED] = {"nodeSelectorTerms": terms}
        if self.chance(60):
            found[oracle.PREFERRED] = [
                {
                    "weight": self.pick(1, 30, 100),
                    "preference": {"matchExpressions": [self.expression(node=True)]},
                }
                for _ in range(self.pick(1, 2))
            ]
        return found

    def term(self):
        found = {"topologyKey": self.pick(oracle.HOSTNAME, oracle.ZONE), "labelSelector": self.selector()}
        if self.chance(20):
            found["namespaces"] = self.rng.sample(sorted(NAMESPACES), self.pick(1, 2))
        if self.chance(20):
            found["namespaceSelector"] = self.pick({}, {"matchLabels": {"team": "1"}})
        return found

    def pod_affinity(self):
        found = {}
        if self.chance(45):
            found[oracle.REQUIRED] = [self.term() for _ in range(self.pick(1, 1, 2))]
        if self.chance(60) or not found:
            found[oracle.PREFERRED] = [
                {"weight": self.pick(1, 50, 100), "podAffinityTerm": self.term()}
                for _ in range(self.pick(1, 2))
            ]
        return found

    def spread(self):
        found = {
            "topologyKey": self.pick(oracle.HOSTNAME, oracle.ZONE, oracle.ZONE),
            "maxSkew": self.pick(1, 1, 2),
            "whenUnsatisfiable": self.pick("DoNotSchedule", "ScheduleAnyway"),
            "labelSelector": self.selector(),
        }
        if self.chance(20) and found["whenUnsatisfiable"] == "DoNotSchedule":
            found["minDomains"] = self.pick(2, 3)
        if self.chance(20):
            found["nodeAffinityPolicy"] = "Ignore"
        if self.chance(20):
            found["nodeTaintsPolicy"] = "Honor"
        if self.chance(20):
            found["matchLabelKeys"] = ["version"]
        return found

    def container(self):
        requests = {}
        if self.chance(70):
            requests["cpu"] = self.pick("100m", "500m", "1", "1500m")
        if self.chance(60):
            requests["memory"] = self.pick("100Mi", "1Gi", "3Gi")
        if self.chance(6):
            requests["example.com/gpu"] = "1"
        image = self.pick("big:1", "big:1", "small", "other:1")
        return {"name": "c", "image": image, "resources": {"requests": requests}}

    def volumes(self, claims):
        if self.chance(15) or not claims:
            disk = {"pdName": self.pick("d1", "d2"), "readOnly": self.chance(50)}
            return [{"name": "v", "gcePersistentDisk": disk}]
        names = self.rng.sample(claims, min(len(claims), self.pick(1, 1, 2)))
        return [
            {"name": f"v{n}", "persistentVolumeClaim": {"claimName": name}} for n, name in enumerate(names)
        ]

    def pod(self, world):
        """A pod with some of every kind of wish."""
        namespace, name = self.pick(*NAMESPACES), f"p{next(self.serial)}"
        containers = [self.container() for _ in range(self.pick(1, 1, 2))]
        spec = {"containers": containers}
        if self.chance(30):
            containers[0]["ports"] = [{"containerPort": 1, "hostPort": self.pick(80, 81), **self.address()}]
        if self.chance(12):
            spec["initContainers"] = [
                {**self.container(), **self.pick({}, {"restartPolicy": "Always"})}
                for _ in range(self.pick(1, 2))
            ]
        if self.chance(5):
            spec["overhead"] = {"cpu": "250m"}
        if self.chance(5):
            spec["resources"] = {"requests": {"cpu": "700m", "memory": "500Mi"}}
        if self.chance(15):
            spec["nodeSelector"] = {self.pick(*KEYS): self.pick(*VALUES)}
        if self.chance(45):
            spec["tolerations"] = [self.toleration() for _ in range(self.pick(1, 2))]
        affinity = {}
        if self.chance(25):
            affinity["nodeAffinity"] = self.node_affinity(sorted(world.nodes))
        if self.chance(22):
            affinity["podAffinity"] = self.pod_affinity()
        if self.chance(25):
            affinity["podAntiAffinity"] = self.pod_affinity()
        if affinity:
            spec["affinity"] = affinity
        if self.chance(30):
            kinds = [self.spread() for _ in range(self.pick(1, 2))]
            unique = {(c["topologyKey"], c["whenUnsatisfiable"]): c for c in kinds}
            spec["topologySpreadConstraints"] = list(unique.values())
        mine = [key.partition("/")[2] for key in world.claims if key.startswith(f"{namespace}/")]
        if self.chance(40):
            spec["volumes"] = self.volumes(mine)
        if self.chance(2) and world.nodes:
            spec["nodeName"] = self.pick(*sorted(world.nodes))
        found = {
            "app": self.pick("p", "q", "r"),
            **({"version": self.pick("1", "2")} if self.chance(40) else {}),
        }
        metadata = {
            "name": name,
            "namespace": namespace,
            "uid": f"uid-{name}",
            "labels": {**self.labels(), **found},
        }
        return {"metadata": metadata, "spec": spec, "status": {}}

    def address(self):
        return self.pick({}, {"hostIP": "10.0.0.1"}, {"hostIP": "10.0.0.2"})

    def toleration(self):
        key, value = self.pick(*TAINTED)
        return self.pick(
            {"operator": "Exists"},
            {"key": key, "operator": "Exists"},
            {"key": key, "operator": "Equal", "value": value, "effect": self.pick(*EFFECTS)},
            {"key": "node.kubernetes.io/unschedulable", "operator": "Exists"},
        )

    # ── volumes ──

    def claim(self, world):
        namespace, name = self.pick(*NAMESPACES), f"c{next(self.serial)}"
        modes = [self.pick("ReadWriteOnce", "ReadWriteOnce", "ReadWriteOncePod")]
        metadata = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "annotations": {}}
        spec = {
            "accessModes": modes,
            "storageClassName": self.pick("later", "later", "later", "local", "local", "now"),
            "resources": {"requests": {"storage": self.pick("1Gi", "2Gi")}},
        }
        claim = {"metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}
        if self.chance(55):
            volume = self.volume(world, {"namespace": namespace, "name": name, "uid": f"uid-{name}"})
            world.volumes[volume["metadata"]["name"]] = volume
            metadata["annotations"] = {"pv.kubernetes.io/bind-completed": "yes"}
            claim["spec"]["volumeName"] = volume["metadata"]["name"]
            claim["status"] = {"phase": "Bound"}
        return claim

    def volume(self, world, reference=None):
        name = f"v{next(self.serial)}"
        spec = {
            "capacity": {"storage": self.pick("1Gi", "2Gi", "5Gi")}, "accessModes": ["ReadWriteOnce"],
            "storageClassName": self.pick("local", "later"),
        }  # fmt: skip
        if self.chance(20):
            spec["accessModes"] = ["ReadWriteOnce", "ReadWriteOncePod"]
        marks = {}
        if self.chance(50):
            marks = {oracle.ZONE: "__".join(self.rng.sample(ZONES, self.pick(1, 2)))}
        elif self.chance(60):
            match = {
                "key": self.pick(oracle.ZONE, "a"),
                "operator": "In",
                "values": [self.pick(*ZONES, *VALUES)],
            }
            spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": [match]}]}}
        if self.chance(90):
            spec["csi"] = {"driver": "made.example.com", "volumeHandle": name}
        if reference:
            spec["claimRef"] = reference
        return {
            "metadata": {"name": name, "labels": marks}, "spec": spec,
            "status": {"phase": "Bound" if reference else "Available"},
        }  # fmt: skip


class Both:
    """One cluster, told to both sides."""

    def __init__(self, rng):
        self.rng, self.make = rng, Maker(rng)
        self.world = oracle.World(namespaces=dict(NAMESPACES), classes=CLASSES, companions=companions)
        self.columns = Columns()
        plugins = plugins_of(Profile(), selector_of)
        self.decider = Decider(self.columns, rng, plugins)
        for name, found in NAMESPACES.items():
            self.columns.counts.set_namespace(name, found)
        for name, storage in CLASSES.items():
            self.columns.volumes.set("classes", name, item({"metadata": {"name": name}, **storage}))

    def set_node(self, name):
        node = self.world.nodes[name] = self.make.node(name)
        self.columns.set_node(NodeInfo(node))
        self.world.limits.pop(name, None)
        drivers = []
        if self.make.chance(75):
            count = 1
            self.world.limits[name] = {"made.example.com": count}
            drivers = [{"name": "made.example.com", "allocatable": {"count": count}}]
        self.columns.volumes.set_limits(name, {"spec": {"drivers": drivers}})

    def lose_node(self, name):
        del self.world.nodes[name]
        self.columns.remove_node(name)

    def add_claim(self):
        claim = self.make.claim(self.world)
        metadata = claim["metadata"]
        key = f"{metadata['namespace']}/{metadata['name']}"
        self.world.claims[key] = claim
        self.columns.volumes.set("claims", key, item(claim))
        self._tell_volumes()

    def add_volume(self):
        volume = self.make.volume(self.world)
        self.world.volumes[volume["metadata"]["name"]] = volume
        self._tell_volumes()

    def _tell_volumes(self):
        for name, volume in self.world.volumes.items():
            if name not in self.columns.volumes.volumes:
                self.columns.volumes.set("volumes", name, item(volume))

    def place(self, pod, node):
        self.world.placed[pod["metadata"]["name"]] = (pod, node)
        self.columns.place(PodInfo(item(pod)), node)

    def leave(self, name):
        pod, _ = self.world.placed.pop(name)
        self.columns.displace(pod["metadata"]["uid"])

    def end(self, name):
        """The pod starts to terminate where it is."""
        pod, node = self.world.placed[name]
        metadata = {**pod["metadata"], "deletionTimestamp": "2026-01-01T00:00:00Z"}
        self.place({**pod, "metadata": metadata}, node)

    def step(self):
        """Something happens; a pod to decide about, or None."""
        chosen, rng = self.rng.random(), self.rng
        if len(self.world.nodes) < 3 or chosen < 0.05:
            self.set_node(f"n{rng.randrange(8)}")
        elif chosen < 0.06:
            self.lose_node(rng.choice(sorted(self.world.nodes)))
        elif chosen < 0.13 and len(self.world.claims) < 14:
            self.add_claim()
        elif chosen < 0.15 and len(self.world.volumes) < 12:
            self.add_volume()
        elif chosen < 0.17 and self.world.placed:
            self.end(rng.choice(sorted(self.world.placed)))
        elif (chosen < 0.35 and self.world.placed) or len(self.world.placed) > 25:
            self.leave(rng.choice(sorted(self.world.placed)))
        else:
            return self.make.pod(self.world)
        return None


def companions(pod):
    """What default spreading goes by: pods of `app=p` have a Service."""
    return {"app": "p"} if pod["metadata"]["labels"].get("app") == "p" else None


def selector_of(pod):
    return from_set({"app": "p"}) if pod.labels.get("app") == "p" else None


_revisions = itertools.count(1)


def item(obj):
    return Item(encode(obj), next(_revisions))
