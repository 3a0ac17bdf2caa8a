"""Query parameters, and the options of the verbs read from them. Unknown parameters are ignored.

Raises `BadRequest` for what can't be read and `Invalid` for what may not be, as Kubernetes does.
"""

import re
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from orchestrator.api.errors import BadRequest, Cause, Invalid, invalid
from orchestrator.api.item import Object
from orchestrator.api.options import DeleteOptions, ListOptions, WatchOptions, WriteOptions

FIELDS_MAX = 512
_INT = re.compile(r"[+-]?[0-9]{1,18}").fullmatch
_META = "meta.k8s.io"


class Query:
    """The parameters of one request; a name may come several times."""

    __slots__ = ("_values",)

    def __init__(self, values: dict[str, list[str]]) -> None:
        self._values = values

    def text(self, name: str, default: str = "") -> str:
        """The first value of `name`."""
        values = self._values.get(name)
        return values[0] if values else default

    def all(self, name: str) -> list[str]:
        return self._values.get(name, [])

    def has(self, name: str) -> bool:
        return name in self._values

    def flag(self, name: str) -> bool:
        """A boolean: everything but absence, `false` and `0` is true."""
        values = self._values.get(name)
        return values is not None and values[0].lower() not in ("false", "0")

    def number(self, name: str) -> int | None:
        """An integer, None when absent or empty. Raises `BadRequest`."""
        text = self.text(name)
        if not text:
            return None
        if not _INT(text):
            raise BadRequest(f'{name}: strconv.ParseInt: parsing "{text}": invalid syntax')
        return int(text)

    def __bool__(self) -> bool:
        return bool(self._values)


NO_QUERY = Query({})


def parse(text: str) -> Query:
    """Read a query string (without `?`). Raises `BadRequest` when it has too many parameters."""
    if not text:
        return NO_QUERY
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=FIELDS_MAX)
    except ValueError:
        raise BadRequest(f"query has more than {FIELDS_MAX} parameters") from None
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    return Query(values)


_LIST = ListOptions()
_WRITE = WriteOptions()


def list_options(query: Query) -> ListOptions:
    """Options of list and of the selection of deletecollection."""
    if not query:
        return _LIST
    options = ListOptions(
        query.text("labelSelector"),
        query.text("fieldSelector"),
        max(0, query.number("limit") or 0),
        query.text("continue"),
        query.text("resourceVersion"),
        query.text("resourceVersionMatch"),
    )
    if options.resource_version_match:
        _check_match(options)
    if query.flag("sendInitialEvents"):
        _refuse("ListOptions", "sendInitialEvents", "sendInitialEvents is forbidden for list")
    return options


def _check_match(options: ListOptions) -> None:
    field, match = "resourceVersionMatch", options.resource_version_match
    if options.continue_token:
        _refuse("ListOptions", field, f"{field} is forbidden when continue is provided")
    if not options.resource_version:
        _refuse("ListOptions", field, f"{field} is forbidden unless resourceVersion is provided")
    if match not in ("Exact", "NotOlderThan"):
        _unsupported("ListOptions", field, match, ("Exact", "NotOlderThan"))
    if match == "Exact" and options.resource_version == "0":
        _refuse("ListOptions", field, f'{field} "Exact" is forbidden for resourceVersion "0"')


def watch_options(query: Query, selected_name: str = "") -> WatchOptions:
    """Options of watch; `selected_name` comes from the deprecated path `/watch/…/name`."""
    initial = query.flag("sendInitialEvents")
    match = query.text("resourceVersionMatch")
    if initial and match != "NotOlderThan":
        _refuse(
            "ListOptions",
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )
    if match and not query.has("sendInitialEvents"):
        _refuse(
            "ListOptions",
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        )
    fields = query.text("fieldSelector")
    if selected_name and "metadata.name" not in fields:
        fields = f"{fields},metadata.name={selected_name}".lstrip(",")
    return WatchOptions(
        query.text("labelSelector"),
        fields,
        query.text("resourceVersion"),
        query.flag("allowWatchBookmarks"),
        initial,
        float(max(0, query.number("timeoutSeconds") or 0)),
    )


def write_options(query: Query, kind: str, user_agent: str, *, apply: bool = False) -> WriteOptions:
    """Options of create, update and patch. `kind` is `CreateOptions` and so on, for messages."""
    if not query:
        if apply:
            _required(kind, "fieldManager", "is required for apply patch")
        return WriteOptions(field_manager=manager_of(user_agent))
    manager = query.text("fieldManager")
    if len(manager) > 128 or not manager.isprintable():
        _invalid(
            kind, "fieldManager", f'Invalid value: "{manager[:128]}": must be printable, at most 128 bytes'
        )
    if apply and not manager:
        _required(kind, "fieldManager", "is required for apply patch")
    if query.has("force") and not apply:
        _refuse(kind, "force", "may not be specified for non-apply patch")
    validation = query.text("fieldValidation") or "Warn"
    if validation not in ("Ignore", "Warn", "Strict"):
        _unsupported(kind, "fieldValidation", validation, ("Ignore", "Strict", "Warn"))
    return WriteOptions(
        _dry_run(kind, query.all("dryRun")),
        manager or manager_of(user_agent),
        validation,
        query.flag("force"),
    )


@lru_cache(maxsize=256)
def manager_of(user_agent: str) -> str:
    """The field manager of a client that names none: its program's name."""
    name = user_agent.partition("/")[0][:128]
    return name if name.isprintable() and name else "unknown"


def delete_options(query: Query, body: Object | None) -> DeleteOptions:
    """From the body where there is one, else from the query, as Kubernetes does."""
    if body is None:
        if not query:
            return DeleteOptions()
        orphan = query.flag("orphanDependents") if query.has("orphanDependents") else None
        return _delete_options(
            query.number("gracePeriodSeconds"),
            query.text("propagationPolicy"),
            orphan,
            query.all("dryRun"),
            {},
        )
    kind = body.get("kind") or "DeleteOptions"
    if kind != "DeleteOptions":
        raise BadRequest(f"the body is a {kind}; expected DeleteOptions")
    preconditions = _field(body, "preconditions", dict, {})
    return _delete_options(
        _field(body, "gracePeriodSeconds", int, None),
        _field(body, "propagationPolicy", str, ""),
        _field(body, "orphanDependents", bool, None),
        _field(body, "dryRun", list, []),
        preconditions,
    )


def _delete_options(
    grace_s: int | None, policy: str, orphan: bool | None, dry_run: list[str], preconditions: Object
) -> DeleteOptions:
    kind = "DeleteOptions"
    if policy and orphan is not None:
        _invalid(
            kind,
            "propagationPolicy",
            f'Invalid value: "{policy}": orphanDependents and deletionPropagation cannot be both set',
        )
    if policy not in ("", "Orphan", "Background", "Foreground"):
        _unsupported(kind, "propagationPolicy", policy, ("Background", "Foreground", "Orphan"))
    return DeleteOptions(
        1 if grace_s is not None and grace_s < 0 else grace_s,
        policy,
        _field(preconditions, "uid", str, ""),
        _field(preconditions, "resourceVersion", str, ""),
        _dry_run(kind, dry_run),
        orphan,
    )


def _field(body: Object, name: str, wanted: type, default: Any) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise BadRequest(f"DeleteOptions.{name}: expected {wanted.__name__}, got {type(value).__name__}")
    return value


def _dry_run(kind: str, values: list[str]) -> bool:
    for value in values:
        if value != "All":
            _unsupported(kind, "dryRun", str(value), ("All",))
    return bool(values)


def _invalid(kind: str, field: str, message: str, reason: str = "FieldValueInvalid") -> NoReturn:
    error: Invalid = invalid(_META, kind, "", (Cause(reason, message, field),))
    raise error


def _refuse(kind: str, field: str, message: str) -> NoReturn:
    _invalid(kind, field, f"Forbidden: {message}", "FieldValueForbidden")


def _required(kind: str, field: str, message: str) -> NoReturn:
    _invalid(kind, field, f"Required value: {message}", "FieldValueRequired")


def _unsupported(kind: str, field: str, value: str, supported: tuple[str, ...]) -> NoReturn:
    names = ", ".join(f'"{name}"' for name in supported)
    _invalid(
        kind, field, f'Unsupported value: "{value}": supported values: {names}', "FieldValueNotSupported"
    )
