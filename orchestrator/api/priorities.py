"""Priority classes that Kubernetes itself defines, and how the default class is found.

Known to the strategy of PriorityClasses, which claims the place of the default class, and to the admission of
pods, which asks who has it. Source: scheduling of Kubernetes v1.36.
"""

from orchestrator.api.resources import Resource

USER_VALUE_MAX = 1_000_000_000
"""The highest priority that users may give."""

SYSTEM_PREFIX = "system-"
SYSTEM: dict[str, int] = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
"""The classes that always exist, and their priorities."""

DEFAULT_CLAIM = "priorityclasses/default"
"""Held by the one class that is the global default (`registry.claims`)."""
CLAIMS = Resource("", "", "", "priorityclasses", namespaced=False, prefix="ranges/priorityclasses")
"""Where the holder of a claim is found by name (`default`): an object whose name is the holder's store key."""
