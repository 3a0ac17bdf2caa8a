"""Options of `pods/log`, checked and turned into the agent's query."""

from orchestrator.api.errors import BadRequest, Cause, invalid
from orchestrator.api.times import seconds
from orchestrator.server.query import Query

_LEAST = {"tailLines": 0, "sinceSeconds": 1, "limitBytes": 1}
_FLAGS = ("follow", "previous", "timestamps")


def log_query(pod: str, query: Query) -> list[tuple[str, str]]:
    """The parameters to pass on. Raises `BadRequest` and `Invalid` as Kubernetes does for `PodLogOptions`."""
    causes = []
    parameters = [(flag, "true") for flag in _FLAGS if query.flag(flag)]
    for name, least in _LEAST.items():
        value = query.number(name)
        if value is None:
            continue
        if value < least and not (name == "sinceSeconds" and query.text("sinceTime")):
            sign = "greater than or equal to 0" if least == 0 else "greater than 0"
            causes.append(Cause("FieldValueInvalid", f"Invalid value: {value}: must be {sign}", name))
        parameters.append((name, str(value)))
    since = query.text("sinceTime")
    if since:
        parameters.append(("sinceTime", _time(since)))
        if query.has("sinceSeconds"):
            text = "Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified"
            causes.append(Cause("FieldValueForbidden", text, ""))
    stream = query.text("stream")
    if stream and stream != "All":
        parameters.append(("stream", stream))
        if stream not in ("Stdout", "Stderr"):
            text = f'Unsupported value: "{stream}": supported values: "All", "Stderr", "Stdout"'
            causes.append(Cause("FieldValueNotSupported", text, "stream"))
        if query.text("tailLines"):
            text = "Forbidden: `tailLines` and specific `stream` are mutually exclusive for now"
            causes.append(Cause("FieldValueForbidden", text, ""))
    if causes:
        raise invalid("", "PodLogOptions", pod, tuple(causes))
    return parameters


def _time(text: str) -> str:
    """`text`, which must be a time of RFC 3339. Raises `BadRequest`."""
    try:
        seconds(text)
    except ValueError:
        layout = "2006-01-02T15:04:05Z07:00"
        raise BadRequest(f'parsing time "{text}" as "{layout}": cannot parse "{text}" as "2006"') from None
    return text
