"""Pod templates: when those of a Deployment and its ReplicaSet are the same, and the name that one gives. Pure.

Called by `orchestrator.controllers.deployment` and its pure parts; `revisions` takes its names from here too.
"""

import hashlib
from typing import Any

import msgspec

from orchestrator.api.item import Object
from orchestrator.controllers.objects import without
from orchestrator.controllers.selecting import HASH_LABEL

_HASH_LETTERS = "bcdfghjklmnpqrstvwxz2456789"
_MAPS = frozenset(
    ("labels", "annotations", "nodeSelector", "matchLabels", "limits", "requests", "resources", "overhead")
)
"""Fields that mean the same empty as absent. Of others, such as an empty selector, one cannot say so."""


def same_template(one: Object, other: Object) -> bool:
    """Whether two pod templates are one but for the hash label and for what is empty in one and absent in the other."""
    one, other = without_hash(one), without_hash(other)
    return one == other or _pruned(one) == _pruned(other)


def without_hash(template: Object) -> Object:
    """The template as its Deployment has it."""
    metadata = template.get("metadata") or {}
    labels = without(metadata.get("labels") or {}, HASH_LABEL)
    return {**template, "metadata": {**without(metadata, "creationTimestamp"), "labels": labels}}


def template_hash(template: Object, collisions: int) -> str:
    """Ten letters that depend on the template's content, not on the order of its keys; they form no words."""
    text = msgspec.json.encode([template, collisions], order="deterministic")
    number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
    letters = []
    for _ in range(10):
        number, letter = divmod(number, len(_HASH_LETTERS))
        letters.append(_HASH_LETTERS[letter])
    return "".join(letters)


def _pruned(value: Any) -> Any:
    """Without nulls, empty lists and the empty maps that say nothing."""
    if isinstance(value, list):
        return [_pruned(entry) for entry in value]
    if not isinstance(value, dict):
        return value
    pruned = {key: _pruned(entry) for key, entry in value.items()}
    return {key: entry for key, entry in pruned.items() if not _says_nothing(key, entry)}


def _says_nothing(key: str, value: Any) -> bool:
    return value is None or value == [] or (value == {} and key in _MAPS)
