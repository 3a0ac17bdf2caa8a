"""Header lines that are put together by hand."""

from orchestrator.web.answer import header


def test_nobody_injects_a_header() -> None:
    assert header("Warning", "a\r\nSet-Cookie: b\x00") == b"Warning: a  Set-Cookie: b \r\n"


def test_text_beyond_ascii_is_utf_8() -> None:
    assert header("Warning", "é") == "Warning: é\r\n".encode()
