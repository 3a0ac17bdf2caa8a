import random

import numpy as np

from orchestrator.scheduler.rules.columns import JOURNAL_MAX, Columns


def facts(columns: Columns) -> dict:
    """The state by node name, whatever the rows."""
    found = {}
    for row, node in enumerate(columns.nodes):
        if node is not None:
            amounts = {
                name: (int(columns.allocatable[n, row]), int(columns.requested[n, row]))
                for name, n in columns.resources.items()
            }
            zone = columns.label("zone")
            value = zone.values[zone.ids[row]] if zone.ids[row] >= 0 else None
            found[node.name] = (
                {name: pair for name, pair in amounts.items() if any(pair)},
                columns.scored[:, row].tolist(), value, columns.taint_sets[columns.taint_set[row]],
                bool(columns.unschedulable[row]),
            )  # fmt: skip
    ports = {
        (key, columns.name(row)): dict(addresses)
        for key, users in columns.ports.items()
        for row, addresses in users.items()
    }
    return {"nodes": found, "ports": ports, "count": columns.node_count}


def test_churn_leaves_what_a_rebuild_gives(pod, node):
    rng = random.Random(11)
    columns, nodes, pods = Columns(), {}, {}
    for number in range(3000):
        name = f"n{rng.randrange(90)}"
        match rng.randrange(6):
            case 0 | 1:
                taints = [{"key": "t", "effect": "NoSchedule"}] if rng.random() < 0.3 else []
                nodes[name] = node(
                    name, cpu=str(rng.randrange(1, 9)), labels={"zone": f"z{rng.randrange(3)}"},
                    taints=taints, resources={"gpu": "2"} if rng.random() < 0.3 else {},
                )  # fmt: skip
                columns.set_node(nodes[name])
            case 2 if nodes:
                columns.remove_node(name)
                nodes.pop(name, None)
            case 3 | 4:
                made = pod(f"p{rng.randrange(200)}", cpu=f"{rng.randrange(1, 900)}m", overhead={"gpu": "1"})
                pods[made.uid] = (made, name)
                columns.place(made, name)
            case _ if pods:
                uid = rng.choice(sorted(pods))
                del pods[uid]
                assert columns.displace(uid)
        if number == 1500:
            columns.label("zone")
    rebuilt = Columns()
    for made in nodes.values():
        rebuilt.set_node(made)
    for made, name in pods.values():
        rebuilt.place(made, name)
    assert facts(columns) == facts(rebuilt)


def test_rows_of_lost_nodes_are_reused_once_their_pods_are_gone(pod, node):
    columns = Columns()
    columns.set_node(node("a"))
    row = columns.row("a")
    columns.place(pod("p"), "a")
    columns.remove_node("a")
    assert columns.row("a") == row
    columns.displace("uid-p")
    assert columns.row("a") is None
    columns.set_node(node("b"))
    assert columns.row("b") == row
    assert columns.node_count == 1


def test_the_journal_is_bounded_and_says_when_it_forgot(pod, node):
    columns = Columns()
    columns.set_node(node("a"))
    start = columns.version
    for number in range(JOURNAL_MAX + 10):
        columns.place(pod("p"), "a") if not number else columns.set_node(node("a", cpu=str(number + 5)))
    assert columns.since(start) is None
    assert columns.since(columns.version) == []
    assert len(columns._journal) <= JOURNAL_MAX


def test_a_node_that_is_as_it_was_is_no_change(node):
    columns = Columns()
    columns.set_node(node("a"))
    version = columns.version
    columns.set_node(node("a"))
    assert columns.version == version


def test_columns_grow_with_their_content(node):
    columns = Columns()
    zone = columns.label("zone")
    for number in range(200):
        columns.set_node(node(f"n{number}", labels={"zone": str(number % 7)}))
    assert columns.node_count == 200
    assert int(np.count_nonzero(zone.ids >= 0)) == 200
