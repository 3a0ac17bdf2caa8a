"""Query parameters, and the options of the verbs read from them. Unknown parameters are ignored.

Raises `BadRequest` for what can't be read and `Invalid` for what may not be, as Kubernetes does.
"""

import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

from orchestrator.api.errors import BadRequest, Cause, invalid
from orchestrator.api.item import Object
from orchestrator.api.options import DeleteOptions, ListOptions, WatchOptions, WriteOptions

FIELDS_MAX = 512
MANAGER_BYTES_MAX = 128
VALUE_SHOWN_MAX = 256
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
    _check("ListOptions", _list_faults(options, query.has("sendInitialEvents")))
    return options


_MATCH = "resourceVersionMatch"


def _list_faults(options: ListOptions, sends_initial: bool) -> Iterator[Cause]:
    match = options.resource_version_match
    if match:
        if not options.resource_version:
            yield _forbidden(_MATCH, f"{_MATCH} is forbidden unless resourceVersion is provided")
        if options.continue_token:
            yield _forbidden(_MATCH, f"{_MATCH} is forbidden when continue is provided")
        if match not in ("Exact", "NotOlderThan"):
            yield _not_supported(_MATCH, match, ("Exact", "NotOlderThan", ""))
        if match == "Exact" and options.resource_version == "0":
            yield _forbidden(_MATCH, f'{_MATCH} "exact" is forbidden for resourceVersion "0"')
    if sends_initial:
        yield _forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list")


def watch_options(query: Query, selected_name: str = "") -> WatchOptions:
    """Options of watch; `selected_name` comes from the deprecated path `/watch/…/name`."""
    initial = query.flag("sendInitialEvents") if query.has("sendInitialEvents") else None
    _check("ListOptions", _watch_faults(query, initial))
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


def _watch_faults(query: Query, initial: bool | None) -> Iterator[Cause]:
    match = query.text(_MATCH)
    if initial is not None and match != "NotOlderThan":
        yield _forbidden(_MATCH, f"sendInitialEvents requires setting {_MATCH} to NotOlderThan")
    if match:
        if initial is None:
            yield _forbidden(_MATCH, f"{_MATCH} is forbidden for watch unless sendInitialEvents is provided")
        if match != "NotOlderThan":
            yield _not_supported(_MATCH, match, ("NotOlderThan",))
        if query.text("continue"):
            yield _forbidden(_MATCH, f"{_MATCH} is forbidden when continue is provided")


def write_options(query: Query, kind: str, user_agent: str, *, apply: bool = False) -> WriteOptions:
    """Options of create, update and patch. `kind` is `CreateOptions` and so on, for messages."""
    if not query:
        if apply:
            _check(kind, [_APPLY_MANAGER])
        return WriteOptions(field_manager=manager_of(user_agent))
    manager, validation = query.text("fieldManager"), query.text("fieldValidation")
    dry_run = query.all("dryRun")
    _check(kind, _write_faults(query, apply, manager, validation, dry_run))
    return WriteOptions(
        bool(dry_run), manager or manager_of(user_agent), validation or "Warn", query.flag("force")
    )


def _write_faults(
    query: Query, apply: bool, manager: str, validation: str, dry_run: list[str]
) -> Iterator[Cause]:
    if query.has("force") and not apply:
        yield _forbidden("force", "may not be specified for non-apply patch")
    if apply and not manager:
        yield _APPLY_MANAGER
    yield from _manager_faults(manager)
    yield from _dry_run_faults(dry_run)
    if validation not in ("", "Ignore", "Warn", "Strict"):
        yield _not_supported("fieldValidation", validation, ("Ignore", "Strict", "Warn"))


_APPLY_MANAGER = Cause("FieldValueRequired", "Required value: is required for apply patch", "fieldManager")


def _manager_faults(manager: str) -> Iterator[Cause]:
    if len(manager.encode()) > MANAGER_BYTES_MAX:
        message = f"Too long: may not be more than {MANAGER_BYTES_MAX} bytes"
        yield Cause("FieldValueTooLong", message, "fieldManager")
    position = 0
    for char in manager[:MANAGER_BYTES_MAX]:
        if not char.isprintable():
            why = f"invalid character U+{ord(char):04X} (at position {position})"
            yield Cause("FieldValueInvalid", f"Invalid value: {_quoted(manager)}: {why}", "fieldManager")
        position += len(char.encode())


def _dry_run_faults(values: list[str]) -> Iterator[Cause]:
    if any(value != "All" for value in values):
        shown = "[]string{" + ", ".join(_quoted(str(value)) for value in values) + "}"
        message = f'Unsupported value: {shown}: supported values: "All"'
        yield Cause("FieldValueNotSupported", message, "dryRun")


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
            {"uid": query.text("uid")} if query.has("uid") else {},
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
    _check("DeleteOptions", _delete_faults(policy, orphan, dry_run))
    return DeleteOptions(
        1 if grace_s is not None and grace_s < 0 else grace_s,
        policy,
        _field(preconditions, "uid", str, ""),
        _field(preconditions, "resourceVersion", str, ""),
        bool(dry_run),
        orphan,
    )


def _delete_faults(policy: str, orphan: bool | None, dry_run: list[str]) -> Iterator[Cause]:
    if policy and orphan is not None:
        why = "orphanDependents and deletionPropagation cannot be both set"
        yield Cause("FieldValueInvalid", f"Invalid value: {_quoted(policy)}: {why}", "propagationPolicy")
    if policy not in ("", "Orphan", "Background", "Foreground"):
        yield _not_supported("propagationPolicy", policy, ("Foreground", "Background", "Orphan", "nil"))
    yield from _dry_run_faults(dry_run)


def _field(body: Object, name: str, wanted: type, default: Any) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
        raise BadRequest(f"DeleteOptions.{name}: expected {wanted.__name__}, got {type(value).__name__}")
    return value


def _check(kind: str, causes: Iterable[Cause]) -> None:
    found = tuple(causes)
    if found:
        raise invalid(_META, kind, "", found)


def _forbidden(field: str, message: str) -> Cause:
    return Cause("FieldValueForbidden", f"Forbidden: {message}", field)


def _not_supported(field: str, value: str, supported: tuple[str, ...]) -> Cause:
    names = ", ".join(_quoted(name) for name in supported)
    message = f"Unsupported value: {_quoted(value)}: supported values: {names}"
    return Cause("FieldValueNotSupported", message, field)


def _quoted(text: str) -> str:
    """A value in a message, not at any length and without control characters."""
    return json.dumps(text[:VALUE_SHOWN_MAX], ensure_ascii=False)
