"""Fetching an image over the registry's HTTP API into containerd's content store.

Mirrors first, then the registry. Every manifest and blob is checked against the digest that named it; a tag's
manifest gives the digest. Of an index only what runs on this host is fetched. Blobs that are here are not fetched
again. Called by `containerd_images`, which unpacks.
"""

import asyncio
import base64
import hashlib
import os
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
import msgspec

from orchestrator.runtime.containerd_content import (
    BLOB_BYTES_MAX,
    CHUNK_BYTES,
    Content,
    Descriptor,
    descriptor,
    pieces,
)
from orchestrator.runtime.containerd_hosts import Host, places
from orchestrator.runtime.containerd_images import INDEXES, choose, references
from orchestrator.runtime.imagetar import host_architecture
from orchestrator.runtime.interface import RegistryAuth, RuntimeFailure, RuntimeUnavailable
from orchestrator.runtime.pulling import pull_failure
from orchestrator.runtime.references import Reference
from orchestrator.runtime.registries import RegistryFile

MANIFESTS = (
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    *INDEXES,
)
BLOBS_AT_ONCE = 3
BLOB_TRIES = 3
DEPTH_MAX = 4
TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=60)
MESSAGE_BYTES_MAX = 65_536
STATUS_WORDS = {401: "unauthorized", 403: "denied", 404: "not found", 429: "too many requests"}
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')


class Refused(Exception):
    """A host said no, or nothing; the next one may say yes."""


class Pull:
    """One pull of one image."""

    def __init__(
        self,
        content: Content,
        reference: Reference,
        auth: RegistryAuth | None,
        lease: str,
        registries: RegistryFile,
    ) -> None:
        self._registries = registries
        self._content = content
        self._reference = reference
        self._auth = auth
        self._lease = lease
        self._slots = asyncio.Semaphore(BLOBS_AT_ONCE)

    async def run(self) -> Descriptor:
        """What the name stands for, with everything of it in the store. Raises `RuntimeFailure`."""
        problems = []
        connector = aiohttp.TCPConnector(limit_per_host=BLOBS_AT_ONCE + 1)
        async with aiohttp.ClientSession(
            connector=connector, timeout=TIMEOUT, auto_decompress=False, trust_env=True
        ) as session:
            for host in await asyncio.to_thread(self._hosts):
                repository, auth = host.repository or self._reference.repository, host.auth or self._auth
                try:
                    return await self._from(Door(session, host, repository, auth))
                except (aiohttp.ClientError, TimeoutError, OSError, Refused) as error:
                    problems.append(_words(error))
        raise pull_failure(self._reference, "; ".join(dict.fromkeys(problems)))

    def _hosts(self) -> list[Host]:
        """Blocking."""
        return places(self._registries.read(), self._reference.registry, self._reference.repository)

    async def _from(self, door: "Door") -> Descriptor:
        wanted = self._reference.digest or self._reference.tag
        try:
            return await self._manifest(door, wanted, self._reference.digest, 0)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(f"its manifest is malformed: {error}") from error

    async def _manifest(self, door: "Door", name: str, digest: str, depth: int) -> Descriptor:
        body, media_type = await door.manifest(name)
        found = f"sha256:{hashlib.sha256(body).hexdigest()}"
        if digest.startswith("sha256:") and digest != found:
            raise Refused(f"manifest {digest} has another digest, {found}")
        document: dict[str, Any] = msgspec.json.decode(body)
        if "manifests" in document:
            chosen = choose(document["manifests"], host_architecture())
            if chosen is None or depth > DEPTH_MAX:
                raise Refused(f"no image for linux/{host_architecture()}: manifest not found")
            await self._manifest(door, chosen["digest"], chosen["digest"], depth + 1)
        elif "config" in document:
            await self._blobs(door, document)
        else:
            raise Refused(f"manifests of the type {media_type or 'of schema 1'} are not supported")
        target = Descriptor(document.get("mediaType") or media_type, found, len(body))
        await self._content.write(target, pieces(body), self._lease, references(document))
        return target

    async def _blobs(self, door: "Door", document: Mapping[str, Any]) -> None:
        wanted = {
            part["digest"]: descriptor(part) for part in (document["config"], *document.get("layers", ()))
        }
        work = (self._blob(door, part) for part in wanted.values())
        for outcome in await asyncio.gather(*work, return_exceptions=True):
            if isinstance(outcome, BaseException):
                raise outcome

    async def _blob(self, door: "Door", wanted: Descriptor) -> None:
        async with self._slots:
            if await self._content.has(wanted.digest):
                return
            for last in (*(False,) * (BLOB_TRIES - 1), True):
                try:
                    await self._content.write(wanted, door.blob(wanted.digest), self._lease)
                    return
                except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, TimeoutError):
                    if last:
                        raise
                except RuntimeUnavailable:
                    raise
                except RuntimeFailure as error:
                    # The engine checks size and digest of what it was given.
                    raise Refused(f"blob {wanted.digest}: {error}") from error


class Door:
    """One repository at one host. Remembers how it was let in."""

    def __init__(
        self, session: aiohttp.ClientSession, host: Host, repository: str, auth: RegistryAuth | None
    ) -> None:
        self._session = session
        self._host = host
        self._repository = repository
        self._auth = auth
        self._credentials = ""
        self._entering = asyncio.Lock()

    async def manifest(self, name: str) -> tuple[bytes, str]:
        """The bytes and the media type of a tag's or digest's manifest."""
        async with await self._get(f"manifests/{name}", {"Accept": ", ".join(MANIFESTS)}) as response:
            body = await response.content.read(BLOB_BYTES_MAX)
            while not response.content.at_eof() and len(body) < BLOB_BYTES_MAX:
                body += await response.content.read(BLOB_BYTES_MAX - len(body))
            return body, response.headers.get("Content-Type", "").partition(";")[0]

    async def blob(self, digest: str) -> AsyncIterator[bytes]:
        """A blob piece by piece; registries send one to where it is stored."""
        async with await self._get(f"blobs/{digest}", {}) as response:
            async for piece in response.content.iter_chunked(CHUNK_BYTES):
                yield piece

    async def _get(self, path: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        url = f"{self._host.base}/{self._repository}/{path}"
        response = await self._request(url, headers)
        if response.status == 401:
            challenge = response.headers.get("WWW-Authenticate", "")
            used = self._credentials
            response.close()
            async with self._entering:
                if self._credentials == used:
                    self._credentials = await self._enter(challenge)
            response = await self._request(url, headers)
        if response.status != 200:
            async with response:
                raise Refused(_refusal(response.status, await response.content.read(MESSAGE_BYTES_MAX)))
        return response

    async def _request(self, url: str, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        given = {**self._host.headers, **headers}
        if self._credentials:
            given["Authorization"] = self._credentials
        return await self._session.get(url, headers=given, ssl=self._host.tls or True)

    async def _enter(self, challenge: str) -> str:
        """What to send with each request, by what the host asks for. Raises `Refused`."""
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic":
            if self._auth is None or not self._auth.username:
                raise Refused("unauthorized: authentication required")
            return _basic(self._auth)
        if scheme.lower() != "bearer":
            raise Refused(f"unauthorized: it asks for {scheme or 'nothing'}, which is not supported")
        asked = dict(_PARAMETER.findall(rest))
        return f"Bearer {await self._token(asked)}"

    async def _token(self, asked: Mapping[str, str]) -> str:
        scope = asked.get("scope") or f"repository:{self._repository}:pull"
        parameters = {"service": asked.get("service", ""), "scope": scope}
        realm, auth = asked.get("realm", ""), self._auth
        if not realm.startswith(("https://", "http://")):
            raise Refused("unauthorized: it names no place to log in")
        if auth is not None and auth.identity_token:
            form = {**parameters, "grant_type": "refresh_token", "client_id": "orchestrator"}
            form["refresh_token"] = auth.identity_token
            call = self._session.post(realm, data=form, ssl=self._host.tls or True)
        else:
            headers = {"Authorization": _basic(auth)} if auth is not None and auth.username else {}
            call = self._session.get(realm, params=parameters, headers=headers, ssl=self._host.tls or True)
        async with call as response:
            body = await response.content.read(MESSAGE_BYTES_MAX)
            if response.status != 200:
                raise Refused(_refusal(response.status, body))
            answer = msgspec.json.decode(body)
        return str(answer.get("token") or answer.get("access_token") or "")


def _basic(auth: RegistryAuth) -> str:
    return "Basic " + base64.b64encode(f"{auth.username}:{auth.password}".encode()).decode()


def _refusal(status: int, body: bytes) -> str:
    """The registry's words behind what the status means."""
    start = STATUS_WORDS.get(status, f"the registry answers {status}")
    try:
        errors = msgspec.json.decode(body)["errors"]
        text = "; ".join(f"{error.get('code', '')}: {error.get('message', '')}" for error in errors)
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        return start
    return f"{start}: {text.replace('_', ' ').lower()}"


def _words(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno:
        return os.strerror(error.os_error.errno).lower()
    if isinstance(error, TimeoutError):
        return "i/o timeout"
    return str(error) or type(error).__name__
