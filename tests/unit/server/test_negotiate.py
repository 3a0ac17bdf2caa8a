"""The form of an answer, from Accept headers as real clients send them."""

import pytest

from orchestrator.api.errors import NotAcceptable
from orchestrator.server.negotiate import form

KUBECTL_GET = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,"
    "application/json"
)


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("", "object"),
        ("*/*", "object"),
        ("application/json, */*", "object"),
        ("application/vnd.kubernetes.protobuf,application/json", "object"),
        ("application/vnd.kubernetes.protobuf", "object"),
        (KUBECTL_GET, "table"),
        ("application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io,application/json", "metadata"),
        ("application/vnd.kubernetes.protobuf;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", "metadata"),
        ("application/json;as=Table;v=v9;g=meta.k8s.io, application/json", "object"),
        ("application/json;as=Table;v=v1;g=meta.k8s.io;q=0.1, application/json", "object"),
        ("text/html, application/*;q=0.5", "object"),
    ],
)
def test_form(accept: str, wanted: str) -> None:
    assert form(accept) == wanted


@pytest.mark.parametrize(
    "accept", ["text/html", "application/json;q=0", "application/json;as=Table;v=v9;g=x"]
)
def test_what_is_not_offered_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable):
        form(accept)
