"""The pause program, run as a plain process and looked at as an image."""

import asyncio
import io
import json
import platform
import signal
import tarfile
from pathlib import Path

import pytest

from orchestrator.base.errors import StartupError
from orchestrator.runtime import pause
from orchestrator.runtime.imagetar import host_architecture


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    path = tmp_path / "pause"
    path.write_bytes(pause.program(host_architecture()))
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.skipif(platform.machine() not in ("x86_64", "aarch64"), reason="no program for this machine")
async def test_it_ends_with_0_on_a_request_to_end_and_not_on_a_child(binary: Path, number: int) -> None:
    process = await asyncio.create_subprocess_exec(binary)
    try:
        await waiting(process.pid)
        process.send_signal(signal.SIGCHLD)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(process.wait(), 0.1)
        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), 10) == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def waiting(pid: int) -> None:
    """Return once the program sleeps in its loop, with its signals blocked."""
    call = {"x86_64": "128", "aarch64": "137"}[platform.machine()]
    syscall = Path(f"/proc/{pid}/syscall")
    async with asyncio.timeout(10):
        while syscall.read_text().split()[0] != call:  # noqa: ASYNC110, ASYNC240 - procfs has no events
            await asyncio.sleep(0)


@pytest.mark.parametrize(("architecture", "machine"), [("amd64", 62), ("arm64", 183)])
def test_it_is_a_small_static_elf_whose_segment_covers_it(architecture: str, machine: int) -> None:
    program = pause.program(architecture)
    assert program[:6] == b"\x7fELF\x02\x01" and len(program) < 512
    assert int.from_bytes(program[18:20], "little") == machine
    load = program[64:120]
    assert int.from_bytes(load[32:40], "little") == len(program)


def test_arm_jumps_stay_inside_the_code() -> None:
    """There is no arm machine in every test run: at least every branch lands on an instruction of ours."""
    code = pause.program("arm64")[176:]
    words = [int.from_bytes(code[at : at + 4], "little") for at in range(0, len(code), 4)]
    targets = []
    for index, word in enumerate(words):
        if word >> 24 == 0x54:
            targets.append(index + signed(word >> 5, 19))
        elif word >> 26 == 0b000101:
            targets.append(index + signed(word, 26))
    wait, reap, leave = 10, 22, len(words) - 3
    assert targets == [leave, leave, wait, reap, wait]


def signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def test_the_image_is_the_same_wherever_it_is_made() -> None:
    archive = pause.image("amd64")
    assert archive == pause.image("amd64")
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        manifest = json.load(files.extractfile("manifest.json"))  # type: ignore[arg-type]
        config = json.load(files.extractfile(manifest[0]["Config"]))  # type: ignore[arg-type]
    assert manifest[0]["RepoTags"] == [pause.TAG]
    assert config["architecture"] == "amd64" and config["config"]["Entrypoint"] == ["/pause"]


def test_an_unknown_machine_is_named() -> None:
    with pytest.raises(StartupError, match="riscv64"):
        pause.program("riscv64")
