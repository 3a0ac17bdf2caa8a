"""What a request asks for, as Kubernetes' RequestInfo resolver reads it."""

import pytest

from orchestrator.api.errors import ApiError, BadRequest, NotFound
from orchestrator.server import query
from orchestrator.server.paths import parse


@pytest.mark.parametrize(
    ("method", "path", "verb", "group", "namespace", "resource", "name", "subresource"),
    [
        ("GET", "/api/v1/namespaces/n/pods/p", "get", "", "n", "pods", "p", ""),
        ("GET", "/api/v1/namespaces/n/pods", "list", "", "n", "pods", "", ""),
        ("GET", "/api/v1/pods", "list", "", "", "pods", "", ""),
        ("GET", "/api/v1/pods/", "list", "", "", "pods", "", ""),
        ("HEAD", "/api/v1/namespaces/n/pods/p", "get", "", "n", "pods", "p", ""),
        ("POST", "/api/v1/namespaces/n/pods", "create", "", "n", "pods", "", ""),
        ("PUT", "/api/v1/namespaces/n/pods/p/status", "update", "", "n", "pods", "p", "status"),
        ("PATCH", "/apis/apps/v1/namespaces/n/deployments/d", "patch", "apps", "n", "deployments", "d", ""),
        ("DELETE", "/apis/apps/v1/namespaces/n/deployments/d", "delete", "apps", "n", "deployments", "d", ""),
        ("DELETE", "/api/v1/namespaces/n/pods", "deletecollection", "", "n", "pods", "", ""),
        ("POST", "/api/v1/namespaces/n/pods/p/exec", "create", "", "n", "pods", "p", "exec"),
        ("GET", "/api/v1/namespaces", "list", "", "", "namespaces", "", ""),
        ("GET", "/api/v1/namespaces/n", "get", "", "n", "namespaces", "n", ""),
        ("PUT", "/api/v1/namespaces/n/finalize", "update", "", "n", "namespaces", "n", "finalize"),
        ("PUT", "/api/v1/namespaces/n/status", "update", "", "n", "namespaces", "n", "status"),
        ("GET", "/api/v1/watch/namespaces/n/pods", "watch", "", "n", "pods", "", ""),
        ("GET", "/apis/apps/v1/watch/deployments", "watch", "apps", "", "deployments", "", ""),
        ("GET", "/api/v1/nodes/x/proxy/logs/a", "get", "", "", "nodes", "x", "proxy"),
        ("TRACE", "/api/v1/pods", "", "", "", "pods", "", ""),
    ],
)  # fmt: skip
def test_resource_paths(
    method: str,
    path: str,
    verb: str,
    group: str,
    namespace: str,
    resource: str,
    name: str,
    subresource: str,
) -> None:
    info = parse(method, path)
    assert (info.verb, info.group, info.namespace) == (verb, group, namespace)
    assert (info.resource, info.name, info.subresource) == (resource, name, subresource)


@pytest.mark.parametrize("path", ["/", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/metrics"])
def test_paths_without_a_resource_are_authorized_by_path(path: str) -> None:
    attributes = parse("GET", path).attributes()
    assert (attributes.verb, attributes.path, attributes.resource) == ("get", path, "")


def test_watch_comes_from_the_query_and_false_is_no_watch() -> None:
    assert parse("GET", "/api/v1/pods", query.parse("watch=1")).verb == "watch"
    assert parse("GET", "/api/v1/pods", query.parse("watch=true&x=")).verb == "watch"
    assert parse("GET", "/api/v1/pods", query.parse("watch=false")).verb == "list"
    assert parse("GET", "/api/v1/namespaces/n/pods/p", query.parse("watch=1")).verb == "get"


def test_a_list_of_one_name_is_authorized_for_that_name() -> None:
    info = parse(
        "GET", "/api/v1/namespaces/n/secrets", query.parse("fieldSelector=metadata.name%3Da,type!%3Db")
    )
    assert info.attributes().name == "a"
    assert info.name == ""


@pytest.mark.parametrize(
    "selector",
    ["metadata.name!=a", r"type!=x\,metadata.name=a", "metadata.namespace=a", "metadata.name=a/b", ""],
)
def test_a_selector_that_does_not_pin_the_name_grants_nothing_by_name(selector: str) -> None:
    info = parse("GET", "/api/v1/secrets", query.Query({"fieldSelector": [selector]}))
    assert info.attributes().name == ""


def test_the_name_of_a_watch_path_is_a_selection() -> None:
    info = parse("GET", "/api/v1/watch/namespaces/n/pods/p")
    assert (info.name, info.selected_name, info.attributes().name) == ("", "p", "p")


def test_encoded_names_are_decoded() -> None:
    assert parse("GET", "/api/v1/namespaces/n/pods/a%3Ab").name == "a:b"


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("/api/v1/namespaces/../pods", BadRequest),
        ("/api/v1/namespaces/%2e%2e/pods", BadRequest),
        ("/api/v1/namespaces/a%2Fb/pods", BadRequest),
        ("/api/v1/namespaces/a%252Fb/pods", BadRequest),
        ("/api/v1/namespaces/a%00/pods", BadRequest),
        ("/api/v1/namespaces/%ff/pods", BadRequest),
        ("/api/v1/namespaces//pods", NotFound),
        ("/api/v1/namespaces/n/pods/p/status/more", NotFound),
        ("/api/v1/watch", BadRequest),
        ("/api/v1/watch/namespaces/n/pods/p/status", NotFound),
    ],
)
def test_paths_that_could_mean_two_things_are_refused(path: str, error: type[ApiError]) -> None:
    with pytest.raises(error):
        parse("GET", path)
