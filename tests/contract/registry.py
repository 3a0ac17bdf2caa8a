"""A registry for tests: one image under any name and tag, behind a token that a password buys. Serves on loopback."""

import base64
import hashlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from orchestrator.runtime.imagearchive import unpack_archive

USER, PASSWORD, TOKEN = "reader", "secret", "let-me-in"


class Registry:
    """What it serves, and what it was asked for. `spoil` a blob to have it delivered with other bytes."""

    def __init__(self, archive: bytes) -> None:
        (image,) = unpack_archive(archive)
        self.manifest = image.manifest
        self.media_type = image.media_type
        self.blobs = {_digest(blob): blob for blob in image.blobs}
        self.digest = _digest(self.manifest)
        self.index = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": "application/vnd.oci.image.index.v1+json",
                "manifests": [
                    _entry(b"for another machine", "s390x"),
                    *(_entry(self.manifest, name) for name in ("amd64", "arm64")),
                ],
            }
        ).encode()
        self.asked: list[str] = []
        self.address = ""

    def spoil(self) -> None:
        """Deliver the largest blob changed but of the same length."""
        digest = max(self.blobs, key=lambda each: len(self.blobs[each]))
        self.blobs[digest] = self.blobs[digest][:-1] + b"!"

    async def token(self, request: web.Request) -> web.Response:
        given = request.headers.get("Authorization", "")
        if given != "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode():
            return web.json_response(
                {"errors": [{"code": "UNAUTHORIZED", "message": "wrong password"}]}, status=401
            )
        return web.json_response({"token": TOKEN})

    async def challenge(self, request: web.Request) -> web.Response:
        """What everybody is told who has no token; engines ask for it at `/v2/` before anything else."""
        realm = f'Bearer realm="http://{self.address}/token",service="test"'
        return web.Response(status=401, headers={"WWW-Authenticate": realm})

    async def serve(self, request: web.Request) -> web.StreamResponse:
        kind, name = request.match_info["kind"], request.match_info["name"]
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return await self.challenge(request)
        self.asked.append(f"{kind}/{name}")
        if kind == "blobs" and name in self.blobs:
            return web.Response(body=self.blobs[name])
        if kind == "manifests" and name == self.digest:
            return web.Response(body=self.manifest, content_type=self.media_type)
        if kind == "manifests" and name in ("1", _digest(self.index)):
            return web.Response(body=self.index, content_type="application/vnd.oci.image.index.v1+json")
        unknown = {"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]}
        return web.json_response(unknown, status=404)


@asynccontextmanager
async def serving(archive: bytes) -> AsyncIterator[Registry]:
    """A registry at `address` (`127.0.0.1:port`), over plain HTTP."""
    registry = Registry(archive)
    app = web.Application()
    app.router.add_get("/token", registry.token)
    app.router.add_get("/v2/", registry.challenge)
    app.router.add_get("/v2/{path:.+}/{kind:manifests|blobs}/{name}", registry.serve)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    registry.address = f"127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield registry
    finally:
        await runner.cleanup()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _entry(manifest: bytes, architecture: str) -> dict[str, object]:
    return {
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": _digest(manifest),
        "size": len(manifest),
        "platform": {"os": "linux", "architecture": architecture},
    }
