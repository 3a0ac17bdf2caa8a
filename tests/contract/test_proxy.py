"""`proxy` of pods, Services and nodes over HTTP, with applications that listen on this host's own address."""

import asyncio
import gzip
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from orchestrator.api.access import ADMIN
from orchestrator.api.item import Object
from orchestrator.api.options import WriteOptions
from orchestrator.api.resources import ENDPOINTSLICES, NODES, PODS, SERVICES, Resource
from orchestrator.web.answer import TEXT, Answer, Request, Response
from orchestrator.web.body import read_body
from orchestrator.web.listener import Listener
from orchestrator.web.upgrade import TakenOver, take_over
from tests.contract.api_support import Cluster

POD = "/api/v1/namespaces/default/pods/web/proxy"
SERVICE = "/api/v1/namespaces/default/services/web:80/proxy"
PAGE = b'<html><a href="/next">x</a><img src="rel.png"></html>'


def own_address() -> str:
    """An address of this host that others reach; no packet is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this host has no address but its loopback one")
        return str(probe.getsockname()[0])


class _Application:
    """Answers by path, and keeps the last request's head."""

    def __init__(self) -> None:
        self.seen: dict[str, str] = {}
        self.path = ""

    async def handle(self, request: Request) -> Response:
        self.seen = dict(request.headers)
        self.path = request.raw_path
        path = request.path.rstrip("/")
        if path.endswith("/echo"):
            return Answer(200, await read_body(request), b"Content-Type: application/x-echo\r\nX-Own: 1\r\n")
        if path.endswith("/redirect"):
            return Answer(302, b"", b"Location: /there\r\nContent-Type: text/html\r\n")
        if path.endswith("/page"):
            return Answer(200, PAGE, b"Content-Type: text/html; charset=utf-8\r\n")
        if path.endswith("/gzip"):
            return Answer(200, gzip.compress(PAGE), b"Content-Type: text/html\r\nContent-Encoding: gzip\r\n")
        if path.endswith("/socket"):
            return await self._socket(request)
        if path.endswith("/refuse"):
            return Answer(403, b"not you", TEXT)
        return Answer(200, request.method.encode(), TEXT)

    async def _socket(self, request: Request) -> Response:
        head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n"
        stream = await take_over(request, head)
        while data := await stream.read():
            stream.write(data)
            await stream.drain()
        stream.close()
        return TakenOver()


@pytest.fixture
async def app() -> AsyncIterator[_Application]:
    application = _Application()
    yield application


@pytest.fixture
async def web(ready: Cluster, app: _Application) -> AsyncIterator[Cluster]:
    """With a pod, a Service and a node whose address and port are the application's."""
    address = own_address()
    listener = Listener(app.handle, address, 0, None)
    port = await listener.start()
    await _store(ready, PODS, "default", _pod("web", address, port))
    await _store(ready, SERVICES, "default", {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}})
    await _store(ready, ENDPOINTSLICES, "default", _slice(address, port))
    node: Object = {"metadata": {"name": "n1"}}
    status = {
        "addresses": [{"type": "InternalIP", "address": address}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 1}},
    }
    await _store(ready, NODES, "", node, status)
    ready.port = port
    yield ready
    await listener.close(grace_s=0.1)


async def _store(
    cluster: Cluster, resource: Resource, namespace: str, obj: Object, status: Object | None = None
) -> None:
    status = status or obj.pop("status", None)
    registry, options = cluster.registry, WriteOptions()
    made = (await registry.create(resource, namespace, obj, options, ADMIN)).item.object
    if status:
        changed = {**made, "status": status}
        await registry.update(
            resource, namespace, made["metadata"]["name"], changed, options, ADMIN, "status"
        )


def _pod(name: str, address: str, port: int) -> Object:
    container = {"name": "c", "image": "x", "ports": [{"name": "http", "containerPort": port}]}
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
    return {"metadata": {"name": name}, "spec": {"containers": [container]}, "status": status}


def _slice(address: str, port: int) -> Object:
    reference = {"kind": "Pod", "namespace": "default", "name": "web"}
    return {
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"name": "", "port": port, "protocol": "TCP"}],
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}, "targetRef": reference}],
    }


@pytest.mark.parametrize("base", [POD, SERVICE, "/api/v1/namespaces/default/pods/http:web:http/proxy"])
async def test_every_method_reaches_the_application(web: Cluster, base: str) -> None:
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"):
        status, body, _ = await web.call(method, base + "/some/path?x=1")
        assert (status, body) == (200, method)


async def test_bodies_headers_and_the_path_pass_both_ways(web: Cluster, app: _Application) -> None:
    body = b"x" * 900_000
    status, echo, answer = await web.call(
        "POST",
        POD + "/a%2Fb//x/../echo/?q=%20",
        body,
        headers={"X-Mine": "1", "Content-Type": "a/b"},
    )
    assert (status, answer.headers["Content-Type"], answer.headers["X-Own"]) == (
        200,
        "application/x-echo",
        "1",
    )
    assert echo.encode() == body
    assert app.path == "/a%2Fb/echo/?q=%20"
    assert (app.seen["X-Mine"], app.seen["Content-Type"]) == ("1", "a/b")
    assert app.seen["X-Forwarded-Uri"].startswith(POD + "/")
    assert app.seen["X-Forwarded-For"] == "127.0.0.1"


async def test_credentials_and_hop_by_hop_headers_stay_here(web: Cluster, app: _Application) -> None:
    headers = {"Impersonate-User": "kubernetes-admin", "Impersonate-Group": "system:masters", "TE": "trailers",
               "Connection": "X-Hop", "X-Hop": "1", "Authorization": "Basic eA==",
               "Sec-WebSocket-Protocol": "base64url.bearer.authorization.k8s.io.eA"}  # fmt: skip
    status, _, _ = await web.call("GET", POD + "/", headers=headers)
    assert status == 200
    assert not (set(headers) - {"Connection"}) & set(app.seen)


async def test_an_empty_path_is_redirected_to_one_with_a_slash(web: Cluster, app: _Application) -> None:
    status, _, answer = await web.call("GET", POD + "?a=1", allow_redirects=False)
    assert (status, answer.headers["Location"]) == (301, POD + "/?a=1")
    assert (await web.call("POST", POD))[1] == "POST"
    assert app.path == "/"


async def test_redirects_are_not_followed_but_rewritten(web: Cluster) -> None:
    status, _, answer = await web.call("GET", POD + "/redirect", allow_redirects=False)
    assert (status, answer.headers["Location"]) == (302, POD + "/there")


@pytest.mark.parametrize("path", ["/page", "/gzip"])
async def test_links_of_a_page_are_rewritten(web: Cluster, path: str) -> None:
    _, body, answer = await web.call("GET", SERVICE + path)
    assert body == f'<html><a href="{SERVICE}/next">x</a><img src="rel.png"></html>'
    assert "Content-Encoding" not in answer.headers


async def test_a_head_has_no_body(web: Cluster) -> None:
    status, body, answer = await web.call("HEAD", POD + "/page")
    assert (status, body, answer.headers["Content-Length"]) == (200, "", str(len(PAGE)))


async def test_the_applications_own_refusal_passes(web: Cluster) -> None:
    assert (await web.call("GET", POD + "/refuse"))[:2] == (403, "not you")


async def test_a_node_by_port(web: Cluster) -> None:
    status, body, _ = await web.call("GET", f"/api/v1/nodes/n1:{web.port}/proxy/x")
    assert (status, body) == (200, "GET")
    status, body, _ = await web.call("GET", "/api/v1/nodes/n1:x/proxy/")
    assert (status, body["message"]) == (400, 'invalid node request "n1:x"')


async def test_nobody_there_is_503_with_the_reason(web: Cluster) -> None:
    with socket.socket() as free:
        free.bind((own_address(), 0))
        port = free.getsockname()[1]
    for headers in ({}, {"Connection": "Upgrade", "Upgrade": "echo"}):
        status, body, _ = await web.call(
            "GET", f"/api/v1/namespaces/default/pods/web:{port}/proxy/", headers=headers
        )
        assert (status, body["reason"]) == (503, "ServiceUnavailable")
        assert body["message"] == (
            f"error trying to reach service: dial tcp {own_address()}:{port}: connect: connection refused"
        )


async def test_this_hosts_own_addresses_are_refused(web: Cluster) -> None:
    await _store(web, PODS, "default", _pod("inner", "127.0.0.1", web.port))
    status, body, _ = await web.call("GET", "/api/v1/namespaces/default/pods/inner/proxy/")
    assert (status, body["message"]) == (400, "address not allowed")
    addresses = [{"type": "Hostname", "address": "localhost"}]
    endpoints = {"kubeletEndpoint": {"Port": 1}}
    await _store(web, NODES, "", {"metadata": {"name": "n2"}},
                 {"addresses": addresses, "daemonEndpoints": endpoints})  # fmt: skip
    for headers in ({}, {"Connection": "Upgrade", "Upgrade": "echo"}):
        status, body, _ = await web.call("GET", f"/api/v1/nodes/n2:{web.port}/proxy/", headers=headers)
        assert (status, body["message"]) == (400, "address not allowed")


@pytest.mark.parametrize("base", [POD, SERVICE])
async def test_an_upgrade_is_passed_through(web: Cluster, app: _Application, base: str) -> None:
    host, _, port = web.base.removeprefix("https://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port), ssl=web.admin_tls)
    lines = [f"GET {base}/socket HTTP/1.1", f"Host: {host}", "Connection: Upgrade", "Upgrade: echo",
             "Sec-WebSocket-Protocol: mine, base64url.bearer.authorization.k8s.io.eA"]  # fmt: skip
    writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 101 ")
    assert app.seen["Sec-WebSocket-Protocol"] == "mine"
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()


async def test_an_upgrade_that_is_refused_says_what_the_application_says(web: Cluster) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": "echo"}
    assert (await web.call("GET", POD + "/refuse", headers=headers))[:2] == (403, "not you")


async def test_the_right_to_proxy_is_that_of_the_subresource(web: Cluster) -> None:
    await web.allow("jane", {"verbs": ["get"], "apiGroups": [""], "resources": ["pods/proxy"]})
    assert (await web.call("GET", POD + "/x", session=web.user))[0] == 200
    for method, path in (("POST", POD + "/x"), ("OPTIONS", POD + "/x"), ("GET", SERVICE + "/x")):
        assert (await web.call(method, path, session=web.user))[0] == 403


async def test_a_client_that_goes_ends_the_request(web: Cluster, app: _Application) -> None:
    begun, gone = asyncio.Event(), asyncio.Event()

    async def endless(request: Request) -> Response:
        response = Response()
        response.enable_chunked_encoding()
        await response.prepare(request)
        begun.set()
        try:
            while True:
                await response.write(b"x" * 1000)
                await asyncio.sleep(0.01)
        finally:
            gone.set()

    app.handle = endless  # type: ignore[method-assign]
    listener = Listener(endless, own_address(), 0, None)
    port = await listener.start()
    timeout: Any = aiohttp.ClientTimeout(total=10)
    answer = await web.admin.get(
        f"{web.base}/api/v1/namespaces/default/pods/web:{port}/proxy/", timeout=timeout
    )
    await begun.wait()
    answer.close()
    async with asyncio.timeout(10):
        await gone.wait()
    await listener.close(grace_s=0.1)
