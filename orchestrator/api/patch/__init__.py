"""The three patches of the API: RFC 6902, RFC 7386 and strategic merge.

All are pure: inputs are never mutated, unchanged parts of the object are shared with the result.
Called by the registry's read-modify-write, on the stored object.
"""

from orchestrator.api.patch.json_patch import json_patch
from orchestrator.api.patch.merge import merge_patch
from orchestrator.api.patch.schema_node import SchemaNode
from orchestrator.api.patch.strategic import strategic_patch

__all__ = ["SchemaNode", "json_patch", "merge_patch", "strategic_patch"]
