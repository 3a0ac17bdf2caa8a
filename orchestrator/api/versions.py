"""The order of API versions, newest and most stable first. Pure; used by discovery.

`v2`, `v1`, `v1beta2`, `v1beta1`, `v1alpha1`, then whatever is named otherwise, by the alphabet.
Source: `k8s.io/apimachinery/pkg/version`.
"""

import re
from typing import Any

_FORM = re.compile(r"v([1-9][0-9]{0,9})(?:(alpha|beta)([1-9][0-9]{0,9}))?", re.ASCII).fullmatch
_STABILITY = {None: 0, "beta": 1, "alpha": 2}


def priority(version: str) -> tuple[Any, ...]:
    """A sort key: what clients should prefer comes first."""
    match = _FORM(version)
    if match is None:
        return (3, 0, 0, version)
    return (_STABILITY[match[2]], -int(match[1]), -int(match[3] or 0), "")
