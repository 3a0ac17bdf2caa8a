"""Links of an HTML page on their way through a proxy: those that point to its own host get the proxy's prefix.

A page is rewritten while it streams. What is held back is at most one tag; one longer than `TAG_BYTES_MAX`
passes as it is, so that no page costs more than its length. Source of the elements and of what is rewritten:
Kubernetes' proxy transport.
"""

import html
import posixpath
import re
from urllib.parse import SplitResult, urlsplit, urlunsplit

TAG_BYTES_MAX = 16 * 1024

_ATTRIBUTES: dict[str, frozenset[str]] = {
    name: frozenset(attributes.split())
    for name, attributes in {
        "a": "href", "applet": "codebase", "area": "href", "audio": "src", "base": "href", "blockquote": "cite",
        "body": "background", "button": "formaction", "command": "icon", "del": "cite", "embed": "src",
        "form": "action", "frame": "longdesc src", "head": "profile", "html": "manifest",
        "iframe": "longdesc src", "img": "longdesc src usemap", "input": "src formaction usemap", "ins": "cite",
        "link": "href", "object": "classid codebase data usemap", "q": "cite", "script": "src", "source": "src",
        "track": "src", "video": "poster src",
    }.items()
}  # fmt: skip
_RAW_TEXT = frozenset(("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"))
"""Elements whose content is text, whatever it looks like."""

_TAG = re.compile(rb"<([A-Za-z][^\s/>]*+)((?:[^>\"']++|\"[^\"]*+\"|'[^']*+')*+)>")
_ATTRIBUTE = re.compile(
    rb"([^\s\"'<>/=]++)(\s*+=\s*+)(?:\"([^\"]*+)\"|'([^']*+)'|([^\s\"'=<>`]++))"
)  # fmt: skip


class LinkRewriter:
    """Rewrites links for one request: `host` is the target's, `asked_host` the client's, `prefix` the proxy's path."""

    def __init__(self, host: str, asked_host: str, prefix: str) -> None:
        self._hosts = ("", host, asked_host)
        self._prefix = prefix

    def link(self, text: str) -> str:
        """`text` as a client must ask for it. Relative links and those to other hosts stay."""
        try:
            url = urlsplit(text)
        except ValueError:
            return text
        if url.netloc not in self._hosts or not url.path.startswith("/"):
            return text
        path = url.path
        if not path.startswith(self._prefix):
            path = posixpath.normpath(self._prefix + path)
            if url.path.endswith("/"):
                path += "/"
        return urlunsplit(SplitResult("", "", path, url.query, url.fragment))


class PageRewriter:
    """Rewrites one page: `feed` its parts in order, then `end`."""

    def __init__(self, links: LinkRewriter) -> None:
        self._links = links
        self._held = b""
        self._raw_end: re.Pattern[bytes] | None = None

    def feed(self, data: bytes) -> bytes:
        """What can be sent on now."""
        page, at = self._held + data, 0
        done: list[bytes] = []
        while True:
            if self._raw_end is not None:
                found = self._raw_end.search(page, at)
                if found is None:
                    # Enough is held back to recognise an end tag that is cut in two.
                    keep = max(at, len(page) - 16)
                    break
                done.append(page[at : found.start()])
                at, self._raw_end = found.start(), None
            start = page.find(b"<", at)
            if start < 0:
                keep = len(page)
                break
            done.append(page[at:start])
            end, text = self._markup(page, start)
            if end < 0:
                at = keep = start
                break
            done.append(text)
            at = end
        done.append(page[at:keep])
        self._held = page[keep:]
        return b"".join(done)

    def end(self) -> bytes:
        """What is left."""
        held, self._held = self._held, b""
        return held

    def _markup(self, page: bytes, start: int) -> tuple[int, bytes]:
        """The markup at `start`: where it ends and what it becomes; -1 when more must come first."""
        limit = start + TAG_BYTES_MAX
        if page.startswith(b"<!--", start):
            end = page.find(b"-->", start + 4, limit)
            size = 3
        else:
            found = _TAG.match(page, start, limit)
            if found is not None:
                return found.end(), self._tag(found)
            end, size = (start, 1) if _is_text(page, start) else (-1, 0)
        if end < 0 and len(page) < limit:
            return -1, b""
        end = end + size if end >= 0 else limit
        return end, page[start:end]

    def _tag(self, found: "re.Match[bytes]") -> bytes:
        name = found[1].decode("latin-1").lower()
        if name in _RAW_TEXT and not found[2].endswith(b"/"):
            self._raw_end = re.compile(rb"</" + re.escape(name.encode()) + rb"(?=[\s/>])", re.IGNORECASE)
        wanted = _ATTRIBUTES.get(name)
        if wanted is None:
            return found[0]

        def rewritten(attribute: "re.Match[bytes]") -> bytes:
            if attribute[1].decode("latin-1").lower() not in wanted:
                return attribute[0]
            value = next(group for group in attribute.groups()[2:] if group is not None)
            old = html.unescape(value.decode("utf-8", "surrogateescape"))
            new = self._links.link(old)
            if new == old:
                return attribute[0]
            text = html.escape(new).encode("utf-8", "surrogateescape")
            return attribute[1] + attribute[2] + b'"' + text + b'"'

        return b"<" + found[1] + _ATTRIBUTE.sub(rewritten, found[2]) + b">"


def _is_text(page: bytes, start: int) -> bool:
    """Whether the `<` at `start` begins no start tag that must be looked at: an end tag, a declaration, text."""
    following = page[start + 1 : start + 2]
    if following == b"!":
        return not b"<!--".startswith(page[start : start + 4])
    return bool(following) and not following.isalpha()
