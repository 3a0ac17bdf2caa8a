"""Links on their way through a proxy."""

import random

import pytest

from orchestrator.server.proxy_html import TAG_BYTES_MAX, LinkRewriter, PageRewriter

PREFIX = "/api/v1/namespaces/a/pods/p/proxy"
LINKS = LinkRewriter("10.0.0.1:80", "localhost:8001", PREFIX)


@pytest.mark.parametrize(
    ("link", "wanted"),
    [
        ("/x", f"{PREFIX}/x"),
        ("/x/", f"{PREFIX}/x/"),
        ("/", f"{PREFIX}/"),
        ("/x?a=1#b", f"{PREFIX}/x?a=1#b"),
        ("http://10.0.0.1:80/x", f"{PREFIX}/x"),
        ("http://localhost:8001/x", f"{PREFIX}/x"),
        (f"http://localhost:8001{PREFIX}/x", f"{PREFIX}/x"),
        (f"{PREFIX}/x", f"{PREFIX}/x"),
        ("x/y", "x/y"),
        ("?a", "?a"),
        ("http://example.org/x", "http://example.org/x"),
        ("//example.org/x", "//example.org/x"),
        ("javascript:go()", "javascript:go()"),
        ("http://[bad", "http://[bad"),
    ],
)
def test_links_to_the_own_host_get_the_prefix(link: str, wanted: str) -> None:
    assert LINKS.link(link) == wanted


def _page(text: str, cuts: int = 0, rng: random.Random | None = None) -> str:
    data, page = text.encode(), PageRewriter(LINKS)
    at = sorted((rng or random.Random(1)).randrange(len(data) + 1) for _ in range(cuts))
    parts = [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]
    return (b"".join(page.feed(part) for part in parts) + page.end()).decode()


PAGES = [
    ('<a href="/x">', f'<a href="{PREFIX}/x">'),
    ("<A class=b HREF = '/x' id=c>", f'<A class=b HREF = "{PREFIX}/x" id=c>'),
    ("<img src=/i.png longdesc=/l>", f'<img src="{PREFIX}/i.png" longdesc="{PREFIX}/l">'),
    ('<a href="/x?a=1&amp;b=2">', f'<a href="{PREFIX}/x?a=1&amp;b=2">'),
    ('<a title="/x" href="y">', '<a title="/x" href="y">'),
    ('<p>a < b <div href="/x">', '<p>a < b <div href="/x">'),
    ('<!-- <a href="/x"> --><a href="/y">', f'<!-- <a href="/x"> --><a href="{PREFIX}/y">'),
    (
        '<script src="/s.js">"<a href=\'/x\'>"</script><link href="/c">',
        f'<script src="{PREFIX}/s.js">"<a href=\'/x\'>"</script><link href="{PREFIX}/c">',
    ),
    ('<a title="a > b" href="/x">é</a>', f'<a title="a > b" href="{PREFIX}/x">é</a>'),
    ("<!DOCTYPE html><html manifest='/m'>", f'<!DOCTYPE html><html manifest="{PREFIX}/m">'),
    ('<a href="/x', '<a href="/x'),
    ("text only", "text only"),
    ("<", "<"),
    ("<!-", "<!-"),
]


@pytest.mark.parametrize(("page", "wanted"), PAGES)
def test_a_pages_links_are_rewritten(page: str, wanted: str) -> None:
    assert _page(page) == wanted


def test_how_a_page_is_cut_makes_no_difference() -> None:
    rng = random.Random(5)
    for page, wanted in PAGES:
        for _ in range(20):
            assert _page(page, rng.randrange(6), rng) == wanted
        assert _page(page, len(page) * 3, rng) == wanted


def test_what_never_ends_is_not_held_back() -> None:
    page = PageRewriter(LINKS)
    sent = 0
    for _ in range(40):
        sent += len(page.feed(b'<a href="' + b"x" * 1000))
    assert 40 * 1009 - sent <= TAG_BYTES_MAX + 1009
