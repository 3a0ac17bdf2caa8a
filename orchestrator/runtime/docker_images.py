"""Images of a Docker engine: look up, load, pull with credentials, remove; and why a pull failed."""

import asyncio
import base64
import builtins
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from orchestrator.runtime import docker_certs
from orchestrator.runtime.docker_engine import WORK_DEADLINE_S, Engine, EngineError
from orchestrator.runtime.imagearchive import docker_archive, is_oci_layout, unpack_archive
from orchestrator.runtime.imagetar import host_architecture
from orchestrator.runtime.interface import (
    Image,
    ImageNotFound,
    RegistryAuth,
    RuntimeFailure,
    RuntimeUnavailable,
)
from orchestrator.runtime.pulling import pull_failure
from orchestrator.runtime.references import Reference, is_image_id, parse
from orchestrator.runtime.registries import Place, RegistryFile

PROGRESS_DEADLINE_S = 60.0
"""A pull that reports nothing for so long is given up."""


class DockerImages:
    """The image part of `DockerRuntime`, its only user."""

    def __init__(self, engine: Engine, instance: str, registries: RegistryFile, certs: Path) -> None:
        """`certs` is where dockerd looks for trust in registries."""
        self._engine = engine
        self._instance = instance
        self._registries = registries
        self._certs = certs

    async def find(self, reference: str) -> Image | None:
        """The image if it is here; a name is normalised first, an id taken as it is."""
        name = reference if is_image_id(reference) else parse(reference).familiar
        try:
            facts = await self._engine.call("GET", f"images/{name}/json")
        except EngineError as error:
            if error.status == 404:
                return await self._by_digest(reference)
            raise
        config = facts.get("Config") or {}
        return _image(facts, user=config.get("User", ""))

    async def layers(self, image_id: str) -> "builtins.list[Path]":
        """The directories of the image's layers, the uppermost first. Raises `ImageNotFound`, `RuntimeFailure`."""
        try:
            facts = await self._engine.call("GET", f"images/{image_id}/json")
        except EngineError as error:
            if error.status == 404:
                raise ImageNotFound(f"image {image_id} is not on this host", "ErrImageNeverPull") from error
            raise
        driver = facts.get("GraphDriver") or {}
        data = driver.get("Data") or {}
        if driver.get("Name") != "overlay2" or not data.get("UpperDir"):
            name = driver.get("Name") or "containerd's snapshotter"
            raise RuntimeFailure(f"image volumes need the engine's storage driver overlay2, not {name}")
        return [Path(part) for part in (data["UpperDir"], *data.get("LowerDir", "").split(":")) if part]

    async def _by_digest(self, reference: str) -> Image | None:
        """What a mirror gave is known under the mirror's name; the digest says that it is the same."""
        digest = "" if is_image_id(reference) else parse(reference).digest
        for image in await self.list() if digest else ():
            if any(each.endswith(f"@{digest}") for each in image.digests):
                return await self.find(image.id)
        return None

    async def list(self) -> "builtins.list[Image]":
        """Images as one call lists them; the user of each is known only to `find`."""
        return [_image(row) for row in await self._engine.call("GET", "images/json")]

    async def in_use(self) -> frozenset[str]:
        """Of every container of the engine, also of those that are none of ours."""
        rows = await self._engine.call("GET", "containers/json", params={"all": 1})
        return frozenset(row["ImageID"] for row in rows)

    async def load(self, archive: bytes) -> None:
        """Take in an archive in `docker save` format."""
        await self._engine.call(
            "POST",
            "images/load",
            params={"quiet": 1},
            body=archive,
            headers={"Content-Type": "application/x-tar"},
            deadline_s=WORK_DEADLINE_S,
        )

    async def load_file(self, path: Path) -> None:
        """As `load`, from a file. Engines before 25 take no OCI layout: such a one is made over into their own."""
        if await asyncio.to_thread(is_oci_layout, path):
            archive = await asyncio.to_thread(path.read_bytes)
            for archived in await asyncio.to_thread(unpack_archive, archive):
                await self.load(await asyncio.to_thread(docker_archive, archived, host_architecture()))
            return
        with await asyncio.to_thread(path.open, "rb") as file:
            await self._engine.call(
                "POST",
                "images/load",
                params={"quiet": 1},
                body=file,
                headers={"Content-Type": "application/x-tar"},
                deadline_s=WORK_DEADLINE_S,
            )

    async def remove(self, image_id: str) -> None:
        """Remove with all its tags; one that is absent is fine, one in use raises `RuntimeFailure`."""
        try:
            await self._engine.call(
                "DELETE", f"images/{image_id}", params={"force": 1}, deadline_s=WORK_DEADLINE_S
            )
        except EngineError as error:
            if error.status != 404:
                raise

    async def pull(self, text: str, auth: RegistryAuth | None) -> Image:
        """Fetch from the registry that the reference names, or a mirror of it."""
        reference = parse(text)
        registries = await asyncio.to_thread(self._registries.read)
        problems: list[str] = []
        for place in registries.places(reference.registry, reference.repository):
            try:
                return await self._pull_from(reference, place, auth)
            except RuntimeUnavailable:
                raise
            except (EngineError, _Refused) as error:
                hint = place.settings.insecure or place.settings.plain_http
                words = f"{error} ({docker_certs.INSECURE})" if hint else str(error)
                problems.append(f"mirror {place.host}: {words}" if place.mirror else words)
        raise pull_failure(reference, "; ".join(problems))

    async def _pull_from(self, reference: Reference, place: Place, auth: RegistryAuth | None) -> Image:
        """The engine asks a mirror under its own name; the image then gets the name that it has for pods."""
        try:
            settings = place.settings
            await asyncio.to_thread(docker_certs.ensure, self._certs, self._instance, place.host, settings)
        except OSError as error:
            raise RuntimeFailure(f"trust in {place.host}: {error}", "ErrImagePull") from error
        if not place.mirror:
            await self._fetch(reference, auth)
            return await self._found(reference.familiar)
        path = f"{place.path.strip('/')}/{place.repository}".strip("/")
        there = replace(reference, registry=place.host, repository=path)
        await self._fetch(there, place.settings.auth or auth)
        image = await self._found(there.familiar)
        if not reference.digest:
            names = {"repo": reference.familiar_name, "tag": reference.tag}
            await self._engine.call("POST", f"images/{image.id}/tag", params=names)
            await self._engine.call("DELETE", f"images/{there.familiar}", params={"noprune": 1})
        return await self._found(reference.familiar)

    async def _fetch(self, reference: Reference, auth: RegistryAuth | None) -> None:
        """Raises `EngineError` or `_Refused` with the words of the engine or the registry."""
        params = {"fromImage": reference.familiar_name, "tag": reference.digest or reference.tag}
        headers = {"X-Registry-Auth": auth_header(auth)} if auth else {}
        async with self._engine.stream(
            "POST", "images/create", params=params, headers=headers, deadline_s=PROGRESS_DEADLINE_S
        ) as progress:
            problem = await _follow(progress)
        if problem:
            raise _Refused(problem)

    async def _found(self, name: str) -> Image:
        image = await self.find(name)
        if image is None:
            raise ImageNotFound(f'image "{name}" is gone right after it was pulled')
        return image


class _Refused(Exception):
    """A place said no; the next one may say yes."""


async def _follow(progress: Any) -> str:
    """Read a pull's progress to its end; returns the problem it reports, or nothing."""
    rest = b""
    while True:
        try:
            async with asyncio.timeout(PROGRESS_DEADLINE_S):
                data = await progress.read(65_536)
        except TimeoutError:
            return f"no progress within {PROGRESS_DEADLINE_S:.0f} s: deadline exceeded"
        *lines, rest = (rest + data).split(b"\n")
        for line in lines if data else [rest]:
            report = msgspec.json.decode(line) if line.strip() else {}
            if report.get("error"):
                return str(report["error"])
        if not data:
            return ""


def auth_header(auth: RegistryAuth) -> str:
    """The value of `X-Registry-Auth`."""
    fields = {
        "username": auth.username,
        "password": auth.password,
        "serveraddress": auth.server,
        "identitytoken": auth.identity_token,
    }
    given = {key: value for key, value in fields.items() if value}
    return base64.urlsafe_b64encode(json.dumps(given).encode()).decode()


def _image(facts: Mapping[str, Any], user: str = "") -> Image:
    tags = [tag for tag in facts.get("RepoTags") or () if tag != "<none>:<none>"]
    digests = [digest for digest in facts.get("RepoDigests") or () if "<none>" not in digest]
    return Image(facts["Id"], tuple(tags), tuple(digests), int(facts.get("Size", 0)), user)
