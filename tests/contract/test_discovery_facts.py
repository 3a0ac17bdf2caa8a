"""Our discovery against the facts of Kubernetes v1.36: every stable resource, verb and subresource, but for a list.

The facts stand in `discovery_facts.txt`, whose head says how to read them.
"""

from pathlib import Path
from typing import Any

from tests.contract.api_support import Cluster

FACTS = Path(__file__).with_name("discovery_facts.txt")
LETTERS = {
    "create": "c", "delete": "d", "deletecollection": "D", "get": "g", "list": "l", "patch": "p", "update": "u",
    "watch": "w",
}  # fmt: skip
AGGREGATED = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
DIFFERENCES: dict[str, str] = {}
"""Resource or `resource/subresource` that we do not serve, or serve otherwise → why."""


def known() -> dict[str, str]:
    """`group/version plural[/subresource]` → everything else that is known of it."""
    found: dict[str, str] = {}
    for line in FACTS.read_text().splitlines():
        if line.startswith("#"):
            continue
        where, plural, *rest = line.split(" ")
        found[f"{where} {plural}"] = " ".join(rest[:6])
        for below in rest[6:]:
            name, _, what = below.partition("=")
            found[f"{where} {plural}/{name}"] = what
    return found


def served(groups: list[dict[str, Any]]) -> dict[str, str]:
    """The same of an aggregated discovery document."""
    found: dict[str, str] = {}
    for group in groups:
        for version in group["versions"]:
            name = group["metadata"].get("name", "")
            where = f"{name}/{version['version']}" if name else version["version"]
            for entry in version["resources"]:
                key = f"{where} {entry['resource']}"
                found[key] = " ".join((
                    entry["responseKind"]["kind"], entry["singularResource"], entry["scope"][0],
                    ",".join(entry.get("shortNames", ())) or "-", ",".join(entry.get("categories", ())) or "-",
                    _letters(entry["verbs"]),
                ))  # fmt: skip
                for below in entry.get("subresources", ()):
                    kind = _kind(below["responseKind"], where)
                    found[f"{key}/{below['subresource']}"] = f"{kind}:{_letters(below['verbs'])}"
    return found


def _letters(verbs: list[str]) -> str:
    return "".join(letter for verb, letter in LETTERS.items() if verb in verbs)


def _kind(kind: dict[str, str], where: str) -> str:
    version = f"{kind['group']}/{kind['version']}" if kind["group"] else kind["version"]
    return kind["kind"] if version == where else f"{version}.{kind['kind']}"


async def test_discovery_differs_from_kubernetes_only_where_there_is_a_reason(cluster: Cluster) -> None:
    groups: list[dict[str, Any]] = []
    for path in ("/api", "/apis"):
        status, document, _ = await cluster.call("GET", path, headers=AGGREGATED)
        assert status == 200
        groups += document["items"]
    ours, theirs = served(groups), known()
    assert {key: what for key, what in ours.items() if key not in theirs} == {}, "we serve what they do not"
    different = {key: (what, ours.get(key)) for key, what in theirs.items() if ours.get(key) != what}
    assert {key: pair for key, pair in different.items() if key not in DIFFERENCES} == {}
    assert sorted(DIFFERENCES) == sorted(different), "a difference that is none any more leaves the list"
