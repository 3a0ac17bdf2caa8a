"""Apply over random histories: idempotent, ownership conserved, force wins, and values as an oracle has them.

The oracle keeps, per path, who owns it with which rule, and knows nothing of trees: objects here are maps of maps,
sets and keyed lists of a schema of our own.
"""

from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.api.apply import fieldset, managed, merge
from orchestrator.api.apply.managed import Write
from orchestrator.api.apply.structs import Shapes
from orchestrator.api.schema import Schemas

GVK = ("", "v1", "Service")
NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from(["1", "2"])
LABELS = st.dictionaries(NAMES, VALUES, max_size=3)
PORTS = st.dictionaries(
    st.sampled_from([80, 81]), st.dictionaries(st.sampled_from(["name", "appProtocol"]), VALUES)
)


@cache
def shape():
    return Shapes(Schemas.load()).root(GVK)


@st.composite
def configs(draw):
    """What somebody may want: a selector (atomic), labels (a map), ports (keyed), finalizers (a set)."""
    obj = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}
    spec = {}
    if labels := draw(LABELS):
        obj["metadata"]["labels"] = labels
    if finalizers := draw(st.lists(NAMES, unique=True, max_size=2)):
        obj["metadata"]["finalizers"] = finalizers
    if ports := draw(PORTS):
        spec["ports"] = [{"port": port, **rest} for port, rest in ports.items()]
    if selector := draw(st.none() | LABELS):
        spec["selector"] = selector
    return {**obj, "spec": spec} if spec else obj


STEPS = st.lists(st.tuples(st.sampled_from(["one", "two", "three"]), configs()), min_size=1, max_size=6)


def write(manager, operation="apply"):
    return Write(manager, "v1", "2020-01-01T00:00:00Z")


def with_entries(outcome):
    obj = outcome.object
    metadata = {key: value for key, value in obj["metadata"].items() if key != "managedFields"}
    if outcome.entries:
        metadata["managedFields"] = outcome.entries
    return {**obj, "metadata": {**metadata, "uid": "u"}}


def apply(live, manager, config, force=True):
    return with_entries(merge.applied(live, config, write(manager), shape(), force))


EMPTY = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}}


def leaves(obj):
    """Every path that the schema lets somebody own, with its value; by hand for this kind."""
    found = {}
    for name, value in obj["metadata"].get("labels", {}).items():
        found["label", name] = value
    for name in obj["metadata"].get("finalizers", ()):
        found["finalizer", name] = name
    for port in obj.get("spec", {}).get("ports", ()):
        for field, value in port.items():
            found["port", port["port"], field] = value
    if "selector" in obj.get("spec", {}):
        found["selector",] = obj["spec"]["selector"]
    return found


class Oracle:
    """Values and owners by path. The items of lists are owned by `port` itself."""

    def __init__(self):
        self.values = {}
        self.owners = {}

    def apply(self, manager, config):
        wanted = leaves(config)
        mine = {path for path, owners in self.owners.items() if manager in owners}
        for path, value in wanted.items():
            if path in self.values and self.values[path] != value:
                self.owners[path] = set()
            self.values[path] = value
            self.owners.setdefault(path, set()).add(manager)
        for path in mine - wanted.keys():
            self.owners[path].discard(manager)
            if not self.owners[path]:
                del self.owners[path], self.values[path]


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_forced_applies_give_what_an_oracle_of_paths_says(steps):
    live, oracle = EMPTY, Oracle()
    for manager, config in steps:
        live = apply(live, manager, config)
        oracle.apply(manager, config)
        assert leaves(live) == oracle.values
        owners = {path: set() for path in oracle.owners}
        for entry in live["metadata"].get("managedFields", ()):
            for path in owned_leaves(entry["fieldsV1"], live):
                owners[path].add(entry["manager"])
        assert owners == oracle.owners


def owned_leaves(fields, live):
    """The oracle's paths that a set owns."""
    for path in leaves(live):
        match path:
            case ("label", name):
                full = ("f:metadata", "f:labels", f"f:{name}")
            case ("finalizer", name):
                full = ("f:metadata", "f:finalizers", f'v:"{name}"')
            case ("port", port, field):
                key = f'k:{{"port":{port},"protocol":"TCP"}}'
                full = ("f:spec", "f:ports", key, f"f:{field}")
            case ("selector",):
                full = ("f:spec", "f:selector")
        if fieldset.has(fields, full):
            yield path


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_an_apply_is_idempotent(steps):
    live = EMPTY
    for manager, config in steps:
        live = apply(live, manager, config)
        assert apply(live, manager, config) == live


@settings(max_examples=40, deadline=None)
@given(STEPS, st.tuples(st.just("last"), configs()))
def test_without_force_an_apply_takes_nothing_from_anybody(steps, last):
    live = EMPTY
    for manager, config in steps:
        live = apply(live, manager, config)
    before = {entry["manager"]: entry["fieldsV1"] for entry in live["metadata"].get("managedFields", ())}
    try:
        after = apply(live, *last, force=False)
    except merge.Conflicts as conflicts:
        for entry, fields in conflicts.found:
            assert fieldset.difference(fields, before[entry["manager"]]) == {}
        return
    for entry in after["metadata"].get("managedFields", ()):
        if entry["manager"] != "last":
            assert entry["fieldsV1"] == before.pop(entry["manager"])
    assert not before


@settings(max_examples=40, deadline=None)
@given(STEPS, configs())
def test_an_update_owns_what_it_changed_and_nobody_owns_what_is_gone(steps, wanted):
    live = EMPTY
    for manager, config in steps:
        live = apply(live, manager, config)
    new = {**wanted, "metadata": {**wanted["metadata"], "uid": "u"}}
    if "managedFields" in live["metadata"]:
        new["metadata"]["managedFields"] = live["metadata"]["managedFields"]
    entries = managed.updated(live, new, write("editor"), shape())
    before, after = leaves(live), leaves(new)
    if not live["metadata"].get("managedFields"):
        assert not entries
        return
    for path in after:
        owners = {entry["manager"] for entry in entries if path in owned_leaves(entry["fieldsV1"], new)}
        if before.get(path) != after[path]:
            assert owners == {"editor"}
    for entry in entries:
        assert fieldset.difference(entry["fieldsV1"], shape().added(new, True)) == {}


def config(**parts):
    return {**EMPTY, **parts}


@pytest.mark.parametrize(
    ("live", "given_ports", "merged"),
    [
        ([1, 2, 3], [3, 1], [2, 3, 1]),
        ([1, 2, 3], [4], [1, 2, 3, 4]),
        ([1, 2], [2, 3, 1], [2, 3, 1]),
        ([1, 2, 3, 4], [4, 2], [1, 3, 4, 2]),
        ([], [2, 1], [2, 1]),
    ],
)
def test_the_order_of_lists(live, given_ports, merged):
    def ports(numbers):
        return {"ports": [{"port": number, "protocol": "TCP"} for number in numbers]}

    obj = apply(config(spec=ports(live)), "one", config(spec=ports(given_ports)))
    assert [port["port"] for port in obj["spec"]["ports"]] == merged


def test_duplicates_that_an_update_left_do_not_stop_an_apply():
    twice = [{"port": 80, "protocol": "TCP", "name": "x"}, {"port": 80, "protocol": "TCP", "name": "y"}]
    obj = apply(config(spec={"ports": twice}), "one", config(spec={"ports": [{"port": 80, "name": "z"}]}))
    assert [port["name"] for port in obj["spec"]["ports"]] == ["z"]


def test_a_kind_without_a_schema_has_granular_objects_and_atomic_lists():
    root = Shapes(Schemas.load()).root(("example.com", "v1", "Thing"))
    obj = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": {"name": "x", "labels": {"a": "b"}},
           "spec": {"a": {"b": 1}, "c": [{"name": "d"}]}}  # fmt: skip
    assert root.owned(obj) == {
        "f:metadata": {"f:labels": {"f:a": {}}},
        "f:spec": {".": {}, "f:a": {".": {}, "f:b": {}}, "f:c": {}},
    }
    one = merge.applied({**obj, "metadata": {}}, obj, write("one"), root, False)
    with pytest.raises(merge.Conflicts):
        merge.applied(
            {**one.object, "metadata": {"uid": "u", "managedFields": one.entries}},
            {**obj, "spec": {"c": [{"name": "e"}]}}, write("two"), root, False,
        )  # fmt: skip
