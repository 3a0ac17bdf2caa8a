"""Images of a Docker engine: look up, load, pull with credentials, remove; and why a pull failed."""

import asyncio
import base64
import builtins
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from orchestrator.runtime.docker_engine import WORK_DEADLINE_S, Engine, EngineError
from orchestrator.runtime.interface import Image, ImageNotFound, RegistryAuth, RuntimeFailure
from orchestrator.runtime.pulling import pull_failure
from orchestrator.runtime.references import is_image_id, parse

PROGRESS_DEADLINE_S = 60.0
"""A pull that reports nothing for so long is given up."""


class DockerImages:
    """The image part of `DockerRuntime`, its only user."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def find(self, reference: str) -> Image | None:
        """The image if it is here; a name is normalised first, an id taken as it is."""
        name = reference if is_image_id(reference) else parse(reference).familiar
        try:
            facts = await self._engine.call("GET", f"images/{name}/json")
        except EngineError as error:
            if error.status == 404:
                return None
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
        """Fetch from the registry that the reference names."""
        reference = parse(text)
        params = {"fromImage": reference.familiar_name, "tag": reference.digest or reference.tag}
        headers = {"X-Registry-Auth": auth_header(auth)} if auth else {}
        try:
            async with self._engine.stream(
                "POST", "images/create", params=params, headers=headers, deadline_s=PROGRESS_DEADLINE_S
            ) as progress:
                problem = await _follow(progress)
        except EngineError as error:
            raise pull_failure(reference, str(error)) from error
        if problem:
            raise pull_failure(reference, problem)
        image = await self.find(text)
        if image is None:
            raise ImageNotFound(f'image "{reference.familiar}" is gone right after it was pulled')
        return image


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
