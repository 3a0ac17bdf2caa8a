"""The form of an answer, from Accept headers as real clients send them."""

import pytest

from orchestrator.api.errors import NotAcceptable
from orchestrator.server import negotiate
from orchestrator.server.negotiate import ALL_MEDIA, NO_PROTOBUF, STREAMED, offer

KUBECTL_GET = (
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,"
    "application/json"
)


PROTOBUF = "application/vnd.kubernetes.protobuf"
PARTIAL = "as=PartialObjectMetadata;v=v1;g=meta.k8s.io"


@pytest.mark.parametrize(
    ("accept", "form", "media"),
    [
        ("", "object", "json"),
        ("*/*", "object", "json"),
        ("application/json, */*", "object", "json"),
        (f"{PROTOBUF},application/json", "object", "protobuf"),
        (f"application/json,{PROTOBUF}", "object", "json"),
        (f"application/json;q=0.5,{PROTOBUF};q=0.9", "object", "protobuf"),
        (PROTOBUF, "object", "protobuf"),
        ("application/yaml", "object", "yaml"),
        (KUBECTL_GET, "table", "json"),
        (f"application/json;{PARTIAL},application/json", "metadata", "json"),
        (f"{PROTOBUF};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1", "metadata", "protobuf"),
        (f"{PROTOBUF};as=Table;v=v1;g=meta.k8s.io,application/json", "object", "json"),
        ("application/json;as=Table;v=v9;g=meta.k8s.io, application/json", "object", "json"),
        ("application/json;as=Table;v=v1;g=meta.k8s.io;q=0.1, application/json", "object", "json"),
        ("text/html, application/*;q=0.5", "object", "json"),
        ("*/*, application/yaml", "object", "yaml"),
    ],
)
def test_the_best_that_can_be_given_is_given(accept: str, form: str, media: str) -> None:
    found = offer(accept)
    assert (found.form, found.media) == (form, media)


def test_a_kind_without_a_message_falls_back_to_what_else_is_accepted() -> None:
    assert offer(f"{PROTOBUF},application/json", NO_PROTOBUF).media == "json"
    assert not offer(PROTOBUF).or_json and offer(f"{PROTOBUF},application/json").or_json
    assert not offer(f"{PROTOBUF};{PARTIAL},application/json").or_json


@pytest.mark.parametrize(
    ("accept", "media", "types"),
    [
        ("text/html", ALL_MEDIA, f"application/json, application/yaml, {PROTOBUF}"),
        ("application/json;q=0", ALL_MEDIA, f"application/json, application/yaml, {PROTOBUF}"),
        (f"{PROTOBUF};as=Table;v=v1;g=meta.k8s.io", ALL_MEDIA, "application/json, application/yaml"),
        ("application/json;as=Table;v=v9;g=x", ALL_MEDIA, "application/json"),
        (PROTOBUF, NO_PROTOBUF, "application/json, application/yaml"),
        ("application/yaml", STREAMED, f"application/json;stream=watch, {PROTOBUF};stream=watch"),
    ],
)
def test_what_is_not_offered_is_refused_with_what_is(
    accept: str, media: tuple[negotiate.Media, ...], types: str
) -> None:
    with pytest.raises(NotAcceptable) as refused:
        offer(accept, media)
    assert f"only the following media types are accepted: {types}" in refused.value.message


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [("", False), (PROTOBUF, True), (f"application/json,{PROTOBUF}", False), (f"text/html,{PROTOBUF}", True),
     (f"{PROTOBUF};as=Table;v=v1;g=meta.k8s.io", False), (PROTOBUF + "," * 5000, False)],
)  # fmt: skip
def test_a_status_is_protobuf_for_those_who_prefer_it(accept: str, wanted: bool) -> None:
    assert negotiate.prefers_protobuf(accept) is wanted
