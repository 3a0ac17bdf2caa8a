"""ConfigMaps and Secrets: keys, sizes, immutability, and what the secret types demand."""

import binascii
from base64 import b64decode, b64encode
from typing import Any

import msgspec

from orchestrator.api import names
from orchestrator.api.errors import BadRequest, Cause
from orchestrator.api.item import Object
from orchestrator.registry.strategies import causes
from orchestrator.registry.strategies.base import BaseStrategy

DATA_BYTES_MAX = 1024 * 1024

_FROZEN = "field is immutable when `immutable` is set"
_ACCOUNT_ANNOTATION = "kubernetes.io/service-account.name"
_KEYS: dict[str, tuple[str, ...]] = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}


class ConfigMapStrategy(BaseStrategy):
    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        data, binary = new.get("data") or {}, new.get("binaryData") or {}
        found: list[Cause] = []
        size_bytes = 0
        for key, value in data.items():
            problems = names.is_config_map_key(key)
            if problems or key in binary:
                found += causes.problems(f"data[{key}]", key, problems)
                if key in binary:
                    found.append(
                        causes.invalid_value(f"data[{key}]", key, "duplicate of key present in binaryData")
                    )
            size_bytes += len(value) if value.isascii() else len(value.encode())
        for key, value in binary.items():
            found += causes.problems(f"binaryData[{key}]", key, names.is_config_map_key(key))
            size_bytes += len(_decoded(value, "ConfigMap"))
        if size_bytes > DATA_BYTES_MAX:
            found.append(causes.too_long("", DATA_BYTES_MAX))
        return found + _validate_frozen(new, old, ("data", "binaryData"))


class SecretStrategy(BaseStrategy):
    def default(self, obj: Object) -> Object:
        result = obj if obj.get("type") else {**obj, "type": "Opaque"}
        if "stringData" in obj:
            texts = {
                key: b64encode(text.encode()).decode() for key, text in (obj["stringData"] or {}).items()
            }
            result = {key: value for key, value in result.items() if key != "stringData"}
            result["data"] = {**(obj.get("data") or {}), **texts}
        return result

    def validate_object(self, new: Object, old: Object | None) -> list[Cause]:
        found: list[Cause] = []
        size_bytes = 0
        data = new.get("data") or {}
        for key, value in data.items():
            found += causes.problems(f"data[{key}]", key, names.is_config_map_key(key))
            size_bytes += len(_decoded(value, "Secret"))
        if size_bytes > DATA_BYTES_MAX:
            found.append(causes.too_long("data", DATA_BYTES_MAX))
        found += _validate_type(new, data)
        if old is not None:
            found += causes.immutable("type", new.get("type"), old.get("type"))
        return found + _validate_frozen(new, old, ("data",))


def _decoded(value: Any, kind: str) -> bytes:
    """Bytes behind base64; Kubernetes refuses bad base64 while decoding the body."""
    try:
        return b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(
            f'{kind} in version "v1" cannot be handled as a {kind}: illegal base64 data: {error}'
        ) from error


def _validate_frozen(new: Object, old: Object | None, fields: tuple[str, ...]) -> list[Cause]:
    """Once `immutable` is true, neither it nor the data changes."""
    if old is None or not old.get("immutable"):
        return []
    found = [] if new.get("immutable") else [causes.forbidden("immutable", _FROZEN)]
    return found + [
        causes.forbidden(name, _FROZEN) for name in fields if (new.get(name) or {}) != (old.get(name) or {})
    ]


def _validate_type(secret: Object, data: Object) -> list[Cause]:
    kind = secret.get("type", "")
    if kind == "kubernetes.io/service-account-token":
        annotations = secret["metadata"].get("annotations") or {}
        if not annotations.get(_ACCOUNT_ANNOTATION):
            return [causes.required(f"metadata.annotations[{_ACCOUNT_ANNOTATION}]")]
        return []
    if kind == "kubernetes.io/basic-auth":
        if "username" in data or "password" in data:
            return []
        return [causes.required("data[username]"), causes.required("data[password]")]
    missing = [causes.required(f"data[{key}]") for key in _KEYS.get(kind, ()) if key not in data]
    if kind == "kubernetes.io/ssh-auth" and data.get("ssh-privatekey") == "":
        return [causes.required("data[ssh-privatekey]")]
    if not missing and kind.startswith("kubernetes.io/dockerc"):
        return _validate_json(data, _KEYS[kind][0])
    return missing


def _validate_json(data: Object, key: str) -> list[Cause]:
    try:
        msgspec.json.decode(b64decode(data[key]), type=dict)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        return [causes.invalid_value(f"data[{key}]", "<secret contents redacted>", str(error))]
    return []
