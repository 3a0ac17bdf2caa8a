"""Which pods may use an image that is here already: those that could pull it, where its pull took a login.

For each image that we pulled a record says under which names, and whether anybody may have it or only who shows
one of the credentials that the registry took. An image without a record was there before us, or was preloaded.
Credentials are kept as salted digests. The records lie in one file, written after a change, and outlive the agent.
Owner: `Images`.
"""

import asyncio
import hashlib
import os
import secrets
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from orchestrator.agent.images.keyring import Credential
from orchestrator.runtime import references

log = structlog.get_logger(__name__)

SECRETS_MAX = 100
"""Credentials remembered for one name; the oldest goes first."""


class PullRecords:
    """Records by image id and name. Without a `path` nothing outlives the process. `policy` is one of
    `agent.settings.VERIFY`, a kubelet's `imagePullCredentialsVerificationPolicy`."""

    def __init__(
        self,
        path: Path | None = None,
        policy: str = "NeverVerifyPreloadedImages",
        allowlist: Sequence[str] = (),
    ) -> None:
        self._path = path
        self._policy = policy
        self._allowlist = tuple(allowlist)
        self._salt = secrets.token_hex(16)
        self._images: dict[str, dict[str, Any]] = {}
        self._writing = asyncio.Lock()

    async def load(self) -> None:
        """Read what an agent before us knew. A file that is spoilt is begun anew, with a word in the log."""
        if self._path is None:
            return
        try:
            kept = msgspec.json.decode(await asyncio.to_thread(self._path.read_bytes))
            self._salt, self._images = str(kept["salt"]), dict(kept["images"])
        except FileNotFoundError:
            return
        except (OSError, msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            log.error("records of pulled images are not readable", path=str(self._path), error=str(error))

    def may_use(self, reference: str, image_id: str, credentials: Sequence[Credential]) -> bool:
        """Whether a pod with these credentials may have the image without asking the registry."""
        if self._policy == "NeverVerify":
            return True
        record = self._images.get(image_id)
        name = repository(reference)
        if record is None:
            if self._policy == "NeverVerifyAllowlistedImages":
                return any(_listed(entry, name) for entry in self._allowlist)
            return self._policy == "NeverVerifyPreloadedImages"
        known: Mapping[str, Any] | None = record.get(name)
        if known is None:
            return False
        if known.get("everyone"):
            return True
        shown = {self._digest(each) for each in credentials} | {each.secret for each in credentials}
        return any({digest, secret} & shown - {""} for digest, secret in known.get("logins", ()))

    async def pulled(self, reference: str, image_id: str, used: Credential | None) -> None:
        """The registry gave the image out for `used`; None, or a login of the node's, lets every pod have it."""
        record = self._images.setdefault(image_id, {})
        known = record.setdefault(repository(reference), {})
        if used is None or not used.secret:
            if known.get("everyone"):
                return
            record[repository(reference)] = {"everyone": True}
        elif not known.get("everyone"):
            entry = [self._digest(used), used.secret]
            logins = [each for each in known.get("logins", ()) if each[1] != used.secret]
            if entry in known.get("logins", ()):
                return
            known["logins"] = [*logins, entry][-SECRETS_MAX:]
        else:
            return
        await self._write()

    async def retain(self, image_ids: Collection[str]) -> None:
        """Forget images that are none of these."""
        gone = self._images.keys() - set(image_ids)
        for image_id in gone:
            del self._images[image_id]
        if gone:
            await self._write()

    def _digest(self, credential: Credential) -> str:
        auth = credential.auth
        text = "\0".join((self._salt, auth.username, auth.password, auth.identity_token))
        return hashlib.sha256(text.encode()).hexdigest()

    async def _write(self) -> None:
        if self._path is None:
            return
        async with self._writing:
            data = msgspec.json.encode({"salt": self._salt, "images": self._images})
            try:
                await asyncio.to_thread(_replace, self._path, data)
            except OSError as error:
                log.warning("records of pulled images not written", path=str(self._path), error=str(error))


def repository(reference: str) -> str:
    """A reference without tag and digest, `registry/repository`; an image id as it is."""
    if references.is_image_id(reference):
        return reference
    parsed = references.parse(reference)
    return f"{parsed.registry}/{parsed.repository}"


def _listed(entry: str, name: str) -> bool:
    """An entry is a name, or ends in `/*` for all below."""
    if entry.endswith("/*"):
        return name.startswith(entry[:-1])
    return name == entry


def _replace(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_suffix(".new")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
