"""The process that reads YAML: the same answers as in this process, bounds, and a new one for one that died."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from orchestrator.api.codec import decode_body
from orchestrator.api.errors import BadRequest, TooManyRequests
from orchestrator.server import yaml_worker
from orchestrator.server.yaml_worker import SMALL_BYTES, YamlWorker, wants_process

YAML = "application/yaml"


@pytest.fixture
async def worker() -> AsyncIterator[YamlWorker]:
    worker = YamlWorker()
    yield worker
    await worker.close()
    await worker.close()


@pytest.mark.parametrize(
    ("data", "content_type", "wanted"),
    [
        (b"a: b", YAML, False),
        (b"a: 2 * 3", YAML, False),
        (b"a: &x 1\nb: *x", YAML, True),
        (b"a: [*x]", "application/apply-patch+yaml", True),
        (b"a: " + b"x" * SMALL_BYTES, YAML, True),
        (b'{"a": "' + b"x" * SMALL_BYTES + b'"}', YAML, False),
        (b"a: " + b"x" * SMALL_BYTES, "application/json", False),
    ],
)
def test_what_goes_to_the_process(data: bytes, content_type: str, wanted: bool) -> None:
    assert wants_process(data, content_type) is wanted


async def test_it_reads_as_this_process_does_and_survives_what_it_refuses(worker: YamlWorker) -> None:
    for data in (b"a: &x [1, ~, yes]\nb: *x\nb: 2", b"a: 0777\nc: {d: 1.5}"):
        assert await worker.decode(data) == decode_body(data, YAML)
    process = worker._process
    for bad in (b"a: [", b"a: \xff", b"x: 99999999999999999999", b"[" * 5000):
        with pytest.raises(BadRequest) as here:
            decode_body(bad, YAML)
        with pytest.raises(BadRequest) as there:
            await worker.decode(bad)
        assert there.value.message == here.value.message
    assert worker._process is process


async def test_one_that_died_is_replaced(worker: YamlWorker) -> None:
    await worker.decode(b"a: 1")
    assert worker._process is not None
    worker._process.kill()
    await worker._process.wait()
    assert (await worker.decode(b"a: 2")).object == {"a": 2}


async def test_one_that_does_not_answer_costs_its_request_alone(
    worker: YamlWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(yaml_worker, "TIMEOUT_S", 0.0)
    with pytest.raises(BadRequest, match="in time"):
        await worker.decode(b"a: 1")
    monkeypatch.setattr(yaml_worker, "TIMEOUT_S", 20.0)
    assert (await worker.decode(b"a: 2")).object == {"a": 2}


async def test_few_wait(worker: YamlWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(yaml_worker, "WAITING_MAX", 2)
    found = await asyncio.gather(*(worker.decode(b"a: 1") for _ in range(4)), return_exceptions=True)
    assert sum(isinstance(one, TooManyRequests) for one in found) == 2
