"""JSON patch, RFC 6902, with Kubernetes' bounds on operations and on growth through `copy`.

A malformed patch is a `BadRequest`; one that does not fit the object (path not found, failed test) is
`Invalid` (422), as kube-apiserver answers. The object given is not changed: a container is copied before the
first change to it and changed in place from then on, so that many operations on a large one stay cheap.
"""

from collections.abc import Callable
from typing import Any

import msgspec

from orchestrator.api.errors import BadRequest, Invalid, RequestEntityTooLarge
from orchestrator.api.item import Object
from orchestrator.api.patch.merge import DEPTH_MAX

OPERATIONS_MAX = 10_000
COPIED_BYTES_MAX = 3 * 1024 * 1024

_Edit = Callable[[Any, str], None]
"""Changes a container in place, at the last token of the path."""


def json_patch(obj: Object, ops: Any) -> Object:
    """`obj` after all of `ops` in order, or an error and no change at all."""
    if not isinstance(ops, list):
        raise BadRequest("error decoding patch: json: cannot unmarshal a JSON patch that is not an array")
    if len(ops) > OPERATIONS_MAX:
        raise RequestEntityTooLarge(
            "Request entity too large: The allowed maximum operations in a JSON patch is "
            f"{OPERATIONS_MAX}, got {len(ops)}"
        )
    run = _Run()
    document: Any = obj
    for op in ops:
        document = run.apply(document, op)
    if not isinstance(document, dict):
        raise _unfit("the patched document is not an object")
    _check_depth(document)
    return document


def _check_depth(document: Object) -> None:
    """Operations can nest what each of them is allowed to hold."""
    level: list[Any] = [document]
    for _ in range(DEPTH_MAX):
        parts = (part for held in level for part in (held.values() if isinstance(held, dict) else held))
        level = [part for part in parts if isinstance(part, dict | list)]
        if not level:
            return
    raise _unfit(f"the patched document is nested deeper than {DEPTH_MAX} levels")


class _Run:
    """One application of a patch. Owner of the containers that it copied; counts the bytes that copies add."""

    def __init__(self) -> None:
        self._copied_bytes = 0
        self._own: dict[int, Any] = {}
        """Containers that nobody else holds, by id; kept so that an id is never somebody else's."""

    def apply(self, document: Any, op: Any) -> Any:
        if not isinstance(op, dict):
            raise BadRequest("error decoding patch: a JSON patch operation is not an object")
        name, path = op.get("op"), _pointer(op, "path")
        match name:
            case "add":
                return self._add(document, path, _value(op))
            case "remove":
                return self._remove(document, path)
            case "replace":
                return self._replace(document, path, _value(op))
            case "move":
                return self._move(document, path, _pointer(op, "from"))
            case "copy":
                return self._copy(document, path, _pointer(op, "from"))
            case "test":
                return self._test(document, path, op.get("value"))
        raise BadRequest(f"error decoding patch: unexpected kind of JSON patch operation: {name!r}")

    def _move(self, document: Any, path: list[str], source: list[str]) -> Any:
        if source == path[: len(source)] and source != path:
            raise _unfit(f"cannot move {_show(source)} into itself")
        value = _get(document, source)
        return self._add(self._remove(document, source), path, value)

    def _copy(self, document: Any, path: list[str], source: list[str]) -> Any:
        try:
            encoded = msgspec.json.encode(_get(document, source))
        except RecursionError:
            raise _unfit(f"{_show(source)} is nested too deep to be copied") from None
        self._copied_bytes += len(encoded)
        if self._copied_bytes > COPIED_BYTES_MAX:
            raise RequestEntityTooLarge(
                f"Unable to complete the copy, the accumulated size increase of copy is"
                f" {self._copied_bytes}, exceeding the limit {COPIED_BYTES_MAX}"
            )
        # A copy of its own: a later change in one place must not show in the other.
        return self._add(document, path, msgspec.json.decode(encoded))

    def _test(self, document: Any, path: list[str], expected: Any) -> Any:
        try:
            actual = _get(document, path)
        except Invalid:
            # A missing member equals null, as in the library that Kubernetes uses.
            if expected is not None:
                raise
            actual = None
        if not same_json(actual, expected):
            raise _unfit(f"testing value {_show(path)} failed")
        return document

    def _mine(self, container: Any) -> Any:
        """`container` if this run may change it, else a copy that it may."""
        if id(container) in self._own:
            return container
        copied = container.copy()
        self._own[id(copied)] = copied
        return copied

    def _edited(self, document: Any, path: list[str], edit: _Edit) -> Any:
        """`document` with `edit` applied to the container that holds the last token of `path`."""
        root: Any = None
        above: Any = None
        place: Any = None
        for at, token in enumerate(path):
            if not isinstance(document, dict | list):
                raise _unfit(f"the path {_show(path[:at])} is neither an object nor an array")
            document = self._mine(document)
            if above is None:
                root = document
            else:
                above[place] = document
            if at == len(path) - 1:
                edit(document, token)
                return root
            child = _get(document, [token])
            above, place = (
                document,
                token if isinstance(document, dict) else _index(document, token, end=False),
            )
            document = child
        return root

    def _add(self, document: Any, path: list[str], value: Any) -> Any:
        def edit(container: Any, token: str) -> None:
            if isinstance(container, dict):
                container[token] = value
            else:
                container.insert(_index(container, token, end=True), value)

        return self._edited(document, path, edit) if path else value

    def _remove(self, document: Any, path: list[str]) -> Any:
        def edit(container: Any, token: str) -> None:
            if isinstance(container, list):
                del container[_index(container, token, end=False)]
            elif token in container:
                del container[token]
            else:
                raise _unfit(f"unable to remove nonexistent key: {_show(path)}")

        if not path:
            raise _unfit("the whole document can't be removed")
        return self._edited(document, path, edit)

    def _replace(self, document: Any, path: list[str], value: Any) -> Any:
        def edit(container: Any, token: str) -> None:
            if isinstance(container, list):
                container[_index(container, token, end=False)] = value
            elif token in container:
                container[token] = value
            else:
                raise _unfit(f"replace operation does not apply: doc is missing key: {_show(path)}")

        return self._edited(document, path, edit) if path else value


def same_json(left: Any, right: Any) -> bool:
    """Equality of JSON values; unlike Python's, `true` is not 1."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_json(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_json, left, right))
    return bool(left == right)


def _unfit(why: str) -> Invalid:
    return Invalid(f"the server rejected our request due to an error in our request: {why}")


def _show(path: list[str]) -> str:
    return (
        "".join("/" + token.replace("~", "~0").replace("/", "~1") for token in path) or "the whole document"
    )


def _pointer(op: dict[str, Any], field: str) -> list[str]:
    text = op.get(field)
    if not isinstance(text, str):
        raise BadRequest(f"error decoding patch: JSON patch operation {op.get('op')!r} needs a {field!r}")
    if text and not text.startswith("/"):
        raise BadRequest(f"error decoding patch: {field} {text!r} does not start with a slash")
    return [token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:]]


def _value(op: dict[str, Any]) -> Any:
    if "value" not in op:
        raise BadRequest(f"error decoding patch: JSON patch operation {op['op']!r} needs a 'value'")
    return op["value"]


def _index(container: list[Any], token: str, *, end: bool) -> int:
    """The list index that `token` means. `end` allows the place behind the last element."""
    if end and token == "-":
        return len(container)
    text = token[1:] if token.startswith("-") else token
    if not (text.isascii() and text.isdigit()) or (len(text) > 1 and text[0] == "0") or len(text) > 9:
        raise _unfit(f"{token!r} is no array index")
    index = int(token)
    if index < 0:
        # Kubernetes' library counts negative indices from the end.
        index += len(container) + (1 if end else 0)
    if not 0 <= index < len(container) + (1 if end else 0):
        raise _unfit(f"unable to access invalid index: {token}")
    return index


def _get(document: Any, path: list[str]) -> Any:
    for depth, token in enumerate(path):
        if isinstance(document, dict):
            if token not in document:
                raise _unfit(f"the path {_show(path[: depth + 1])} does not exist")
            document = document[token]
        elif isinstance(document, list):
            document = document[_index(document, token, end=False)]
        else:
            raise _unfit(f"the path {_show(path[: depth + 1])} does not exist")
    return document
