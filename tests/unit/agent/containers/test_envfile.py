"""Files of variables."""

import pytest

from orchestrator.agent.containers.envfile import parse


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("", {}),
        ("A=1\n\n# note\n  B=two words  \n", {"A": "1", "B": "two words  "}),
        ("A='it is'\nB=\"so\"\r\nC=\n", {"A": "it is", "B": "so", "C": ""}),
        ("A='two\nlines # kept'\nB=x=y", {"A": "two\nlines # kept", "B": "x=y"}),
        ("A=1\nA=2", {"A": "2"}),
    ],
)
def test_files_are_read(text: str, wanted: dict[str, str]) -> None:
    assert parse(text) == wanted


def test_a_line_that_is_none_is_named() -> None:
    with pytest.raises(ValueError, match="line 2 is not"):
        parse("A=1\nrubbish\nB=2\n")
