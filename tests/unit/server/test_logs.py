"""Options of `pods/log`."""

import pytest

from orchestrator.api.errors import ApiError, BadRequest, Invalid
from orchestrator.server.logs import log_query
from orchestrator.server.query import parse

_TIME = "2026-01-02T03:04:05Z"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", []),
        ("follow=true&previous=0&timestamps=1", [("follow", "true"), ("timestamps", "true")]),
        (
            "tailLines=0&limitBytes=1&sinceSeconds=5",
            [("tailLines", "0"), ("sinceSeconds", "5"), ("limitBytes", "1")],
        ),
        (f"sinceTime={_TIME}", [("sinceTime", _TIME)]),
        ("stream=All&tailLines=1", [("tailLines", "1")]),
        ("stream=Stderr", [("stream", "Stderr")]),
        ("insecureSkipTLSVerifyBackend=true&pretty=1", []),
    ],
)
def test_options_are_passed_on(text: str, wanted: list[tuple[str, str]]) -> None:
    assert log_query("p", parse(text)) == wanted


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("tailLines=-1", Invalid, "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ("sinceSeconds=0", Invalid, "sinceSeconds: Invalid value: 0: must be greater than 0"),
        ("limitBytes=0", Invalid, "limitBytes: Invalid value: 0: must be greater than 0"),
        (
            f"sinceSeconds=1&sinceTime={_TIME}",
            Invalid,
            ": Forbidden: at most one of `sinceTime` or `sinceSeconds` may be specified",
        ),
        (
            "stream=Both",
            Invalid,
            'stream: Unsupported value: "Both": supported values: "All", "Stderr", "Stdout"',
        ),
        (
            "stream=Stdout&tailLines=3",
            Invalid,
            ": Forbidden: `tailLines` and specific `stream` are mutually exclusive for now",
        ),
        ("sinceTime=soon", BadRequest, 'parsing time "soon" as'),
        ("tailLines=x", BadRequest, "tailLines"),
    ],
)
def test_options_that_mean_nothing_are_refused(text: str, kind: type[ApiError], message: str) -> None:
    with pytest.raises(kind) as refused:
        log_query("p", parse(text))
    assert message in refused.value.message
    if kind is Invalid:
        assert refused.value.message == f'PodLogOptions "p" is invalid: {message}'
