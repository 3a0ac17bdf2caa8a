"""Options read from queries and bodies, and what Kubernetes refuses about them."""

import pytest

from orchestrator.api.errors import ApiError, BadRequest, Invalid
from orchestrator.api.options import DeleteOptions, ListOptions, WatchOptions, WriteOptions
from orchestrator.server import query


def test_list_options() -> None:
    options = query.list_options(
        query.parse("labelSelector=a%3Db&fieldSelector=c%3Dd&limit=5&resourceVersion=7&unknown=1")
    )
    assert options == ListOptions("a=b", "c=d", 5, "", "7", "")
    assert query.list_options(query.NO_QUERY) == ListOptions()


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("limit=many", BadRequest, 'limit: strconv.ParseInt: parsing "many": invalid syntax'),
        ("resourceVersionMatch=Exact", Invalid, "forbidden unless resourceVersion is provided"),
        ("resourceVersionMatch=Exact&resourceVersion=0", Invalid, 'forbidden for resourceVersion "0"'),
        (
            "resourceVersionMatch=Near&resourceVersion=5",
            Invalid,
            'supported values: "Exact", "NotOlderThan", ""',
        ),
        ("resourceVersionMatch=Exact&resourceVersion=5&continue=x", Invalid, "when continue is provided"),
        ("sendInitialEvents=false", Invalid, "sendInitialEvents is forbidden for list"),
    ],
)
def test_list_options_that_are_refused(text: str, error: type[ApiError], message: str) -> None:
    with pytest.raises(error) as refused:
        query.list_options(query.parse(text))
    assert message in refused.value.message


def test_watch_options() -> None:
    text = (
        "allowWatchBookmarks=true&timeoutSeconds=9&resourceVersionMatch=NotOlderThan&sendInitialEvents=true"
    )
    assert query.watch_options(query.parse(text)) == WatchOptions("", "", "", True, True, 9.0)
    assert query.watch_options(query.NO_QUERY, "p").field_selector == "metadata.name=p"


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        (
            "sendInitialEvents=true",
            ["sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"],
        ),
        (
            "sendInitialEvents=false&resourceVersionMatch=Exact",
            [
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
                'Unsupported value: "Exact": supported values: "NotOlderThan"',
            ],
        ),
        (
            "resourceVersionMatch=NotOlderThan&continue=x",
            [
                "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
                "resourceVersionMatch is forbidden when continue is provided",
            ],
        ),
    ],
)
def test_watch_options_that_are_refused_name_every_fault(text: str, messages: list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        query.watch_options(query.parse(text))
    causes = refused.value.causes
    assert len(causes) == len(messages) and {cause.field for cause in causes} == {"resourceVersionMatch"}
    assert all(message in cause.message for cause, message in zip(causes, messages, strict=True))


def test_write_options() -> None:
    options = query.write_options(
        query.parse("dryRun=All&fieldManager=me&fieldValidation=Strict"), "CreateOptions", "kubectl/1.32"
    )
    assert options == WriteOptions(True, "me", "Strict")
    assert query.write_options(query.NO_QUERY, "CreateOptions", "kubectl/1.32").field_manager == "kubectl"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dryRun=Some", 'dryRun: Unsupported value: []string{"Some"}: supported values: "All"'),
        ("fieldValidation=Loose", 'supported values: "Ignore", "Strict", "Warn"'),
        ("force=true", "may not be specified for non-apply patch"),
        ("fieldManager=a%07b", "invalid character U+0007 (at position 1)"),
        ("fieldManager=" + "x" * 129, "fieldManager: Too long: may not be more than 128 bytes"),
    ],
)
def test_write_options_that_are_refused_name_the_option(text: str, message: str) -> None:
    with pytest.raises(Invalid) as refused:
        query.write_options(query.parse(text), "PatchOptions", "")
    assert refused.value.message.startswith('PatchOptions.meta.k8s.io "" is invalid: ')
    assert message in refused.value.message


def test_apply_needs_a_field_manager() -> None:
    with pytest.raises(Invalid):
        query.write_options(query.NO_QUERY, "PatchOptions", "kubectl/1", apply=True)


def test_delete_options_come_from_the_body_where_there_is_one() -> None:
    body = {
        "gracePeriodSeconds": -3,
        "propagationPolicy": "Foreground",
        "preconditions": {"uid": "u", "resourceVersion": "5"},
        "dryRun": ["All"],
    }
    parsed = query.delete_options(query.parse("gracePeriodSeconds=9"), body)
    assert parsed == DeleteOptions(1, "Foreground", "u", "5", True)
    assert query.delete_options(query.parse("uid=u"), None).uid == "u"
    from_query = query.delete_options(query.parse("gracePeriodSeconds=0&orphanDependents=true"), None)
    assert from_query == DeleteOptions(0, orphan_dependents=True)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"kind": "Pod"}, BadRequest),
        ({"gracePeriodSeconds": "5"}, BadRequest),
        ({"gracePeriodSeconds": True}, BadRequest),
        ({"preconditions": []}, BadRequest),
        ({"propagationPolicy": "Sideways"}, Invalid),
        ({"propagationPolicy": "Orphan", "orphanDependents": True}, Invalid),
        ({"dryRun": ["Some"]}, Invalid),
    ],
)
def test_delete_options_that_are_refused(body: dict[str, object], error: type[ApiError]) -> None:
    with pytest.raises(error):
        query.delete_options(query.NO_QUERY, body)


def test_too_many_parameters_are_refused() -> None:
    with pytest.raises(BadRequest):
        query.parse("&".join(["a=1"] * 600))
