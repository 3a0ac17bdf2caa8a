"""Image references as people write them, and what they mean.

`busybox` is `docker.io/library/busybox:latest`; a first component with a dot, a colon or the name `localhost`
is a registry. Pure; used by every runtime.
"""

import re
from dataclasses import dataclass

from orchestrator.runtime.interface import RuntimeFailure

DEFAULT_REGISTRY = "docker.io"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[a-z0-9]+(?:[.+_-][a-z0-9]+)*:[0-9a-fA-F]{32,}")
_ID = re.compile(r"(?:sha256:)?[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed reference. `tag` and `digest` may both be empty only when an image id was given."""

    registry: str
    repository: str
    tag: str = ""
    digest: str = ""

    @property
    def familiar_name(self) -> str:
        """The repository as docker shows it, without `docker.io/library/`."""
        if self.registry != DEFAULT_REGISTRY:
            return f"{self.registry}/{self.repository}"
        return self.repository.removeprefix("library/")

    @property
    def familiar(self) -> str:
        """The whole reference as docker shows it, e.g. `busybox:latest`; by digest when it has one."""
        if self.digest:
            return f"{self.familiar_name}@{self.digest}"
        return f"{self.familiar_name}:{self.tag}"


def is_image_id(text: str) -> bool:
    """Whether `text` is an image's id rather than a name."""
    return _ID.fullmatch(text) is not None


def parse(text: str) -> Reference:
    """Raises `RuntimeFailure` with the reason `InvalidImageName` for what is no reference."""
    rest, _, digest = text.partition("@")
    if digest and not _DIGEST.fullmatch(digest):
        raise _invalid(text)
    head, separator, last = rest.rpartition("/")
    last, _, tag = last.partition(":")
    path = f"{head}{separator}{last}"
    first, slash, remainder = path.partition("/")
    if slash and (first == "localhost" or "." in first or ":" in first):
        registry, repository = first, remainder
    else:
        registry, repository = DEFAULT_REGISTRY, path if slash else f"library/{path}"
    if registry in ("index.docker.io", "docker.io"):
        registry = DEFAULT_REGISTRY
        repository = repository if "/" in repository else f"library/{repository}"
    if not _REPOSITORY.fullmatch(repository) or (tag and not _TAG.fullmatch(tag)):
        raise _invalid(text)
    return Reference(registry, repository, tag if tag or digest else "latest", digest)


def _invalid(text: str) -> RuntimeFailure:
    return RuntimeFailure(
        f'couldn\'t parse image reference "{text}": invalid reference format', "InvalidImageName"
    )
