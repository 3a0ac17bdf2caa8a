"""Zones of nodes, and how fast pods may be driven off nodes that fell silent. Owner: the node lifecycle controller.

1. A zone is a region and a zone by their labels; nodes without are one zone.
2. From a zone one node every 10 s is emptied. Where 55 % of it and at least three nodes are down, the network may be
   at fault: one every 100 s where it has more than 50 nodes, none in a smaller one.
3. Where every zone is down whole, nobody is left to take the pods, or it is us who see nothing: nodes keep them.

Source: Kubernetes' node lifecycle controller and its defaults.
"""

from typing import Literal

from orchestrator.api.item import Item

EVERY_S = 10.0
EVERY_WHEN_PARTLY_DOWN_S = 100.0
LARGE_ZONE_NODES = 50
DOWN_RATIO = 0.55
DOWN_MIN = 3
ZONE_LABEL = "topology.kubernetes.io/zone"
REGION_LABEL = "topology.kubernetes.io/region"

State = Literal["normal", "partial", "full"]


class Zones:
    """How many nodes of each zone are up and down, and when the next node of it may be emptied."""

    def __init__(self) -> None:
        self._nodes: dict[str, tuple[str, bool]] = {}
        self._counts: dict[str, dict[bool, int]] = {}
        self._next_s: dict[str, float] = {}

    def note(self, item: Item, ready: bool) -> bool:
        """What is known of a node; whether the state of a zone changed with it."""
        return self._set(item.meta.name, (zone_of(item), ready))

    def forget(self, name: str) -> bool:
        """The node is gone; whether the state of a zone changed with it."""
        return self._set(name, None)

    def state(self, zone: str) -> State:
        counts = self._counts.get(zone) or {}
        up, down = counts.get(True, 0), counts.get(False, 0)
        if down and not up:
            return "full"
        return "partial" if down >= DOWN_MIN and down / (up + down) >= DOWN_RATIO else "normal"

    @property
    def all_down(self) -> bool:
        """Rule 3."""
        return bool(self._counts) and all(self.state(zone) == "full" for zone in self._counts)

    def turn(self, name: str, now_s: float) -> float | None:
        """Seconds until the node may be emptied, 0 takes the zone's turn; None while its zone may not."""
        zone = self._nodes[name][0]
        every_s = self._every_s(zone)
        if every_s is None:
            return None
        left_s = self._next_s.get(zone, now_s) - now_s
        if left_s > 0:
            return left_s
        self._next_s[zone] = now_s + every_s
        return 0.0

    def _every_s(self, zone: str) -> float | None:
        if self.state(zone) != "partial":
            return EVERY_S
        large = sum(self._counts[zone].values()) > LARGE_ZONE_NODES
        return EVERY_WHEN_PARTLY_DOWN_S if large else None

    def _set(self, name: str, now: tuple[str, bool] | None) -> bool:
        before = self._nodes.pop(name, None)
        if now is not None:
            self._nodes[name] = now
        if before == now:
            return False
        zones = {place[0] for place in (before, now) if place is not None}
        states = {zone: self.state(zone) for zone in zones}, self.all_down
        for place, step in ((before, -1), (now, 1)):
            if place is not None:
                counts = self._counts.setdefault(place[0], {True: 0, False: 0})
                counts[place[1]] += step
                if not any(counts.values()):
                    del self._counts[place[0]]
        return states != ({zone: self.state(zone) for zone in zones}, self.all_down)


def zone_of(item: Item) -> str:
    """Rule 1; empty for a node without either label."""
    region, zone = item.labels.get(REGION_LABEL, ""), item.labels.get(ZONE_LABEL, "")
    return f"{region}:{zone}" if region or zone else ""
