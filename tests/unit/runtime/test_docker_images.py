"""Why a pull failed, in words that a person can act on."""

import base64
import json

import pytest

from orchestrator.runtime.docker_images import auth_header, pull_failure
from orchestrator.runtime.interface import ImageNotFound, RegistryAuth
from orchestrator.runtime.references import parse


@pytest.mark.parametrize(
    ("words", "lasting", "told"),
    [
        ("manifest for x:1 not found: manifest unknown", True, "not found"),
        ("pull access denied for x, repository does not exist", True, "access denied"),
        ("unauthorized: authentication required", True, "access denied"),
        ("dial tcp 10.0.0.1:443: connect: connection refused", False, "can't be reached"),
        ("dial tcp: lookup registry.example: no such host", False, "can't be reached"),
        ("received unexpected HTTP status: 500", False, "HTTP status: 500"),
    ],
)
def test_a_failed_pull_says_what_is_wrong(words: str, lasting: bool, told: str) -> None:
    failure = pull_failure(parse("registry.example/x:1"), words)
    assert isinstance(failure, ImageNotFound) is lasting
    assert told in str(failure) and "registry.example/x:1" in str(failure) and words in str(failure)
    assert failure.reason == "ErrImagePull"


def test_credentials_travel_as_the_engine_wants_them() -> None:
    header = auth_header(RegistryAuth("registry.example", "me", "pass/word?"))
    assert json.loads(base64.urlsafe_b64decode(header)) == {
        "username": "me",
        "password": "pass/word?",
        "serveraddress": "registry.example",
    }
