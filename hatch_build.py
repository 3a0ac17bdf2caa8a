"""Builds `orchestrator/api/schemas.bin` from the API definitions in the PyPI package kubernetes-validate.

Called by hatchling for every wheel and editable install; `python hatch_build.py` does the same in a checkout.
The package carries Kubernetes' definitions for several versions in a form altered for JSON Schema tools; here
they are put back into the API's own form, split into one chunk of structure and one of descriptions per API
package, and compressed one by one, so that a server reads only what it is asked for.

Layout of the bundle: 8 bytes magic, the index's length as 4 bytes little endian, then zlib-compressed JSON:
the index `{"version", "kinds": {"group/version/Kind": definition}, "chunks": {package: [offset, length,
offset of descriptions, their length]}}` with offsets from the end of the index, then the chunks. A chunk maps
the definition's last name to its schema; descriptions map it to `{"": own text, field: text}`.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import struct
import zlib
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MAGIC = b"ORCSCHM1"
VERSION = (1, 36)
BUNDLE = Path("orchestrator", "api", "schemas.bin")
STABLE = re.compile(r"\.v\d+$")
SHARED = ("io.k8s.apimachinery.pkg.",)
META = "io.k8s.apimachinery.pkg.apis.meta.v1"

# Two types that are more than one JSON type; the package keeps only a `oneOf` of them.
INT_OR_STRING = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"
REPLACED: dict[str, dict[str, Any]] = {
    INT_OR_STRING: {
        "type": "string",
        "format": "int-or-string",
        "description": "A 32-bit integer or a string, such as a port's number or its name, or a percentage.",
    },
    QUANTITY: {
        "type": "string",
        "format": "quantity",
        "description": "A number with a decimal (m, k, M, G …) or binary (Ki, Mi, Gi …) suffix or an exponent; "
        "a plain JSON number is accepted too.",
    },
}


def main() -> None:
    """Write the bundle into this checkout."""
    target = Path(__file__).parent / BUNDLE
    print(f"{target}: {write(target)} bytes")


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling's entry: the bundle lies beside the sources, and `artifacts` takes it into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "sdist":
            write(Path(self.root) / BUNDLE)


def write(target: Path) -> int:
    """Generate the bundle and put it in place atomically; returns its size in bytes."""
    version, definitions = read_definitions()
    data = pack(version, definitions)
    scratch = target.with_suffix(f".{os.getpid()}.tmp")
    scratch.write_bytes(data)
    scratch.replace(target)
    return len(data)


def read_definitions() -> tuple[str, dict[str, Any]]:
    """The version taken and its definitions: 1.36 where the package has it, else the nearest."""
    spec = importlib.util.find_spec("kubernetes_validate")
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(
            "kubernetes-validate is not installed; it carries the API definitions. Install it."
        )
    root = Path(next(iter(spec.submodule_search_locations)), "kubernetes-json-schema")
    found = {}
    for path in root.glob("v*-local/_definitions.json"):
        match = re.match(r"v(\d+)\.(\d+)\.(\d+)-local$", path.parent.name)
        if match:
            found[tuple(int(part) for part in match.groups())] = path
    if not found:
        raise RuntimeError(
            f"kubernetes-validate holds no definitions below {root}; take version 1.37.0 of it."
        )
    best = min(found, key=lambda v: (abs(v[0] - VERSION[0]), abs(v[1] - VERSION[1]), -v[2]))
    return "v" + ".".join(map(str, best)), json.loads(found[best].read_text("utf-8"))["$defs"]


def pack(version: str, definitions: dict[str, Any]) -> bytes:
    """The whole bundle for these definitions."""
    structures: dict[str, dict[str, Any]] = {}
    texts: dict[str, dict[str, Any]] = {}
    kinds: dict[str, str] = {}
    for name in sorted(needed(definitions)):
        package, _, short = name.rpartition(".")
        schema, text = split(REPLACED.get(name) or restore(definitions[name]))
        structures.setdefault(package, {})[short] = schema
        texts.setdefault(package, {})[short] = text
        for gvk in schema.get("x-kubernetes-group-version-kind", ()):
            if package != META or (gvk["group"] == "" and gvk["version"] == "v1"):
                kinds[f"{gvk['group']}/{gvk['version']}/{gvk['kind']}"] = name
    body, chunks = b"", {}
    for package in structures:
        shape, prose = squeeze(structures[package]), squeeze(texts[package])
        chunks[package] = [len(body), len(shape), len(body) + len(shape), len(prose)]
        body += shape + prose
    index = squeeze({"version": version, "kinds": kinds, "chunks": chunks})
    return MAGIC + struct.pack("<I", len(index)) + index + body


def needed(definitions: dict[str, Any]) -> set[str]:
    """Names of the stable packages' definitions and of all that those refer to."""
    wanted: set[str] = set()
    waiting = [
        name for name in definitions if name.startswith(SHARED) or STABLE.search(name.rpartition(".")[0])
    ]
    while waiting:
        name = waiting.pop()
        if name not in wanted:
            wanted.add(name)
            waiting.extend(references(definitions[name]))
    return wanted


def references(schema: Any) -> list[str]:
    """Every definition that `schema` refers to, at any depth."""
    if isinstance(schema, list):
        return [name for part in schema for name in references(part)]
    if not isinstance(schema, dict):
        return []
    own = [reference(schema["$ref"])] if isinstance(schema.get("$ref"), str) else []
    return own + [name for part in schema.values() for name in references(part)]


def reference(text: str) -> str:
    return text.removeprefix("#/$defs/")


def restore(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema as the API publishes it: no `null` types, no enums of apiVersion and kind, short references."""
    out: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "type" and isinstance(value, list):
            out[key] = next(part for part in value if part != "null")
        elif key == "$ref":
            out[key] = reference(value)
        elif key == "properties":
            out[key] = {field: restore(part) for field, part in value.items()}
            for field in ("apiVersion", "kind"):
                out[key].get(field, {}).pop("enum", None)
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            out[key] = restore(value)
        else:
            out[key] = value
    return out


def split(schema: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Structure and descriptions of one definition, apart."""
    texts = {"": schema["description"]} if "description" in schema else {}
    structure = {key: value for key, value in schema.items() if key != "description"}
    if "properties" in structure:
        fields = {}
        for field, part in structure["properties"].items():
            if "description" in part:
                texts[field] = part["description"]
            fields[field] = {key: value for key, value in part.items() if key != "description"}
        structure["properties"] = fields
    return structure, texts


def squeeze(value: Any) -> bytes:
    return zlib.compress(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode(), 9)


if __name__ == "__main__":
    main()
