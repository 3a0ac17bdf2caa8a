"""What a schema says about merging: patch strategies, list types, map keys. For patches and server-side apply.

A `SchemaNode` is a place in a kind's schema: the object, one of its fields, or an element of a list or map. A
node of a place that the schema does not know is empty and its children too, so callers need no checks.
"""

from typing import Any

from orchestrator.api.schema_bundle import Bundle, Definition
from orchestrator.api.schema_fast import is_opaque

_CORE = "io.k8s.api.core.v1."
_PROTOCOL = {"protocol": "TCP"}

# Map keys that an element may leave out, and what then stands for them. The definitions have lost these.
KEY_DEFAULTS: dict[str, dict[str, Any]] = {
    f"{_CORE}ContainerPort": _PROTOCOL,
    f"{_CORE}ServicePort": _PROTOCOL,
    f"{_CORE}LocalObjectReference": {"name": ""},
    f"{_CORE}ObjectReference": {"name": ""},
    "io.k8s.api.flowcontrol.v1.FlowSchemaCondition": {"type": ""},
    "io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationCondition": {"type": ""},
}


class SchemaNode:
    """One place of a schema. Cheap to make; holds no children."""

    __slots__ = ("_bundle", "_field", "_name", "_target")

    def __init__(self, bundle: Bundle, field: Definition) -> None:
        self._bundle = bundle
        self._field = field
        self._name: str = field.get("$ref", "")
        self._target: Definition = bundle.definition(self._name) if self._name else field

    @property
    def definition(self) -> Definition:
        """What the schema says here: the same dictionary as long as the schema is the same."""
        return self._target

    @property
    def preserves_unknown(self) -> bool:
        """Whether fields that the schema does not know are kept."""
        flag = "x-kubernetes-preserve-unknown-fields"
        return bool(self._target.get(flag) or self._field.get(flag))

    @property
    def type(self) -> str:
        """`object`, `array`, `string` …; empty where anything may stand."""
        return "" if is_opaque(self._target) else str(self._target["type"])

    @property
    def is_map(self) -> bool:
        """Whether keys are free, as in labels, rather than fields."""
        return "additionalProperties" in self._target

    @property
    def patch_strategy(self) -> tuple[str, ...]:
        """`merge`, `replace`, `retainKeys`; empty where the schema names none."""
        text = self._field.get("x-kubernetes-patch-strategy", "")
        return tuple(text.split(",")) if text else ()

    @property
    def merge_key(self) -> str:
        """The field by which strategic merge patch tells a list's elements apart; empty for plain values."""
        return str(self._field.get("x-kubernetes-patch-merge-key", ""))

    @property
    def list_type(self) -> str:
        """`map`, `set` or `atomic`; a list that says nothing is atomic. Empty where there is no list."""
        if self._target.get("type") != "array":
            return ""
        return str(self._field.get("x-kubernetes-list-type", "atomic"))

    @property
    def map_keys(self) -> tuple[str, ...]:
        """Fields that identify an element of a `map` list."""
        return tuple(self._field.get("x-kubernetes-list-map-keys", ()))

    @property
    def map_key_defaults(self) -> dict[str, Any]:
        """What stands for a map key that an element leaves out."""
        defaults = KEY_DEFAULTS.get(self._target.get("items", {}).get("$ref", ""), {})
        return {key: defaults[key] for key in self.map_keys if key in defaults}

    @property
    def map_type(self) -> str:
        """`atomic` or `granular`, of an object."""
        found = self._field.get("x-kubernetes-map-type") or self._target.get("x-kubernetes-map-type")
        return str(found or "granular")

    def child(self, field: str) -> "SchemaNode":
        """The place of a field, or of a map's value."""
        values = self._target.get("additionalProperties")
        return SchemaNode(self._bundle, self._target.get("properties", {}).get(field, values or {}))

    def item(self) -> "SchemaNode":
        """The place of a list's elements."""
        return SchemaNode(self._bundle, self._target.get("items", {}))

    def is_required(self, field: str) -> bool:
        """Whether the schema requires `field` here."""
        return field in self._target.get("required", ())

    def has(self, field: str) -> bool:
        """Whether the schema knows `field` here."""
        return self.is_map or field in self._target.get("properties", {})
