"""Tables of rules asked of the real server: what it takes, and the field and words of what it refuses."""

from collections.abc import Iterable
from typing import Any

from tests.contract.api_support import Cluster, Json

_REASONS = {
    "Required value": "FieldValueRequired",
    "Invalid value": "FieldValueInvalid",
    "Unsupported value": "FieldValueNotSupported",
    "Duplicate value": "FieldValueDuplicate",
    "Forbidden": "FieldValueForbidden",
    "Not found": "FieldValueNotFound",
    "Too long": "FieldValueTooLong",
    "Too many": "FieldValueTooMany",
}


def faults(status: int, answer: Any, kind: str) -> list[str]:
    """`field: message` of every cause of a refusal, in order; nothing for what was taken. The `Status` around
    them is checked on the way."""
    if status in (200, 201):
        return []
    assert status == 422 and answer["reason"] == "Invalid", answer
    assert answer["details"]["kind"] == kind and answer["message"].startswith(f"{kind}"), answer
    found = []
    for cause in answer["details"]["causes"]:
        title = cause["message"].partition(":")[0]
        assert _REASONS[title] == cause["reason"], cause
        found.append(f"{cause.get('field', '')}: {cause['message']}")
    return found


def differs(found: list[str], expected: Iterable[str]) -> bool:
    """Whether `found` are not those that begin as `expected`, in any order."""
    left = list(found)
    for text in expected:
        match = next((entry for entry in left if entry.startswith(text)), None)
        if match is None:
            return True
        left.remove(match)
    return bool(left)


async def judge(cluster: Cluster, method: str, path: str, body: Json, kind: str) -> list[str]:
    """What the server would say to a write, without making it."""
    status, answer, _ = await cluster.call(method, f"{path}?dryRun=All", body)
    return faults(status, answer, kind)
