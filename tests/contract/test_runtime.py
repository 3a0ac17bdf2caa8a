"""The contract of `orchestrator.runtime.interface`, on every runtime that there is."""

import asyncio
import os
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from orchestrator.base.clock import SystemClock
from orchestrator.base.tasks import Supervisor
from orchestrator.runtime import cgroups
from orchestrator.runtime.containerd import ContainerdRuntime
from orchestrator.runtime.docker import DockerRuntime
from orchestrator.runtime.imagetar import Entry, build
from orchestrator.runtime.interface import (
    Device,
    ImageNotFound,
    LogOptions,
    Mount,
    PodCgroup,
    RegistryAuth,
    Resources,
    Runtime,
    RuntimeFailure,
    RuntimeUnavailable,
    Security,
    Streams,
)
from orchestrator.runtime.simulated import SimulatedRuntime
from tests.contract.registry import PASSWORD, USER, serving
from tests.contract.runtime_support import Pod, containerd_endpoint, containerd_started, docker_endpoint
from tests.images import BUSYBOX, TAG, busybox_archive

MISSING = "127.0.0.1:1/nobody/nothing:7"
FOREVER = ("sleep", "infinity")


@pytest.fixture(scope="session")
def docker_socket() -> Iterator[str]:
    with docker_endpoint() as socket:
        yield socket


@pytest.fixture
async def supervisor() -> AsyncIterator[Supervisor]:
    supervisor = Supervisor("test")
    yield supervisor
    await supervisor.stop()


@pytest.fixture
async def docker(docker_socket: str, supervisor: Supervisor) -> AsyncIterator[DockerRuntime]:
    runtime = DockerRuntime(docker_socket, secrets.token_hex(3), SystemClock(), supervisor)
    await runtime.connect()
    if await runtime.image(TAG) is None:
        await runtime.load_image(busybox_archive())
    yield runtime
    for sandbox in await runtime.list_sandboxes():
        await runtime.remove_sandbox(sandbox.id)
    for container in await runtime.list_containers():
        await runtime.remove_container(container.id)
    await runtime.close()


@dataclass(frozen=True)
class Place:
    """One engine and one instance on it, for all tests: an image is unpacked once."""

    socket: str
    instance: str
    directory: Path


@pytest.fixture(scope="session")
def containerd_place() -> Iterator[Place]:
    with (
        containerd_endpoint() as socket,
        tempfile.TemporaryDirectory(prefix="orcr", dir="/tmp") as name,
    ):
        place = Place(socket, secrets.token_hex(3), Path(name))
        yield place
        cgroups.remove(f"/orchestrator-{place.instance}")


def containerd_at(place: Place, supervisor: Supervisor, instance: str = "") -> ContainerdRuntime:
    name = instance or place.instance
    directory = place.directory / name
    return ContainerdRuntime(place.socket, name, directory, directory / "pods", SystemClock(), supervisor)


@pytest.fixture
async def containerd(containerd_place: Place, supervisor: Supervisor) -> AsyncIterator[ContainerdRuntime]:
    runtime = containerd_at(containerd_place, supervisor)
    await runtime.connect()
    if await runtime.image(TAG) is None:
        await runtime.load_image(busybox_archive())
    yield runtime
    for sandbox in await runtime.list_sandboxes():
        await runtime.remove_sandbox(sandbox.id)
    for container in await runtime.list_containers():
        await runtime.remove_container(container.id)
    await runtime.close()


@pytest.fixture
async def simulated(supervisor: Supervisor) -> AsyncIterator[SimulatedRuntime]:
    runtime = SimulatedRuntime(SystemClock(), supervisor, missing=[MISSING])
    await runtime.connect()
    yield runtime
    await runtime.close()


@pytest.fixture(params=["docker", "containerd", "simulated"])
def runtime(request: pytest.FixtureRequest) -> Runtime:
    runtime: Runtime = request.getfixturevalue(request.param)
    return runtime


@pytest.fixture
async def pod(runtime: Runtime) -> Pod:
    return await Pod(runtime, "web-0").open()


@pytest.fixture(params=["docker", "containerd"])
def engine(request: pytest.FixtureRequest) -> Runtime:
    """Those that run real processes."""
    runtime: Runtime = request.getfixturevalue(request.param)
    return runtime


@pytest.fixture
async def real_pod(engine: Runtime) -> Pod:
    return await Pod(engine, "web-0").open()


@pytest.fixture
async def docker_pod(docker: DockerRuntime) -> Pod:
    return await Pod(docker, "web-0").open()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that every user may read; pytest's own are root's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


async def read_all(streams: Streams) -> dict[str, bytes]:
    output = {"stdout": b"", "stderr": b""}
    async with asyncio.timeout(20):
        while (piece := await streams.read()) is not None:
            output[piece[0]] += piece[1]
    return output


async def host(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0


# Sandboxes


async def test_a_new_sandbox_runs_and_is_listed_with_all_that_was_given(runtime: Runtime) -> None:
    pod = Pod(runtime, "web-1")
    made = await runtime.create_sandbox(pod.sandbox_spec(attempt=2, annotations={"hash": "abc"}))
    assert made.running and made.netns_path
    (listed,) = await runtime.list_sandboxes()
    assert (listed.id, listed.pod_uid, listed.pod_name) == (made.id, "uid-web-1", "web-1")
    assert (listed.pod_namespace, listed.attempt, listed.running) == ("testing", 2, True)
    assert listed.annotations == {"hash": "abc"}
    assert listed.netns_path == made.netns_path
    asked = await runtime.inspect_sandbox(made.id)
    assert asked is not None and asked.running
    assert (asked.pod_uid, asked.attempt, asked.netns_path) == ("uid-web-1", 2, made.netns_path)


async def test_a_sandbox_on_the_host_hands_out_no_network_namespace(runtime: Runtime) -> None:
    pod = Pod(runtime, "host-net")
    made = await runtime.create_sandbox(pod.sandbox_spec(network="host"))
    assert made.running and made.netns_path == ""


async def test_stopping_a_sandbox_ends_its_containers_and_may_be_repeated(runtime: Runtime, pod: Pod) -> None:
    container_id = await pod.run(*FOREVER)
    for _ in range(2):
        await runtime.stop_sandbox(pod.sandbox_id)
    (sandbox,) = await runtime.list_sandboxes()
    container = await runtime.inspect_container(container_id)
    assert not sandbox.running and sandbox.netns_path == ""
    asked = await runtime.inspect_sandbox(pod.sandbox_id)
    assert asked is not None and not asked.running and asked.netns_path == ""
    assert container is not None and container.state == "exited" and container.exit_code == 137


async def test_removing_a_sandbox_takes_everything_with_it_and_may_be_repeated(
    runtime: Runtime, pod: Pod
) -> None:
    await pod.run(*FOREVER)
    for _ in range(2):
        await runtime.remove_sandbox(pod.sandbox_id)
    assert await runtime.list_sandboxes() == []
    assert await runtime.inspect_sandbox(pod.sandbox_id) is None
    assert await runtime.list_containers() == []


async def test_what_is_absent_stops_and_goes_without_complaint(runtime: Runtime) -> None:
    absent = "0" * 64
    await runtime.stop_container(absent, 1)
    await runtime.remove_container(absent)
    await runtime.stop_sandbox(absent)
    assert await runtime.inspect_container(absent) is None
    assert await runtime.stats(absent) is None


# Containers


async def test_a_container_goes_from_created_over_running_to_exited(runtime: Runtime, pod: Pod) -> None:
    container_id = await runtime.create_container(pod.spec(*FOREVER, attempt=3, annotations={"hash": "h"}))
    created = await runtime.inspect_container(container_id)
    await runtime.start_container(container_id)
    await runtime.start_container(container_id)
    running = await runtime.inspect_container(container_id)
    await runtime.stop_container(container_id, 1)
    exited = await runtime.inspect_container(container_id)
    assert created is not None and running is not None and exited is not None
    assert (created.state, created.started_s, created.finished_s) == ("created", 0, 0)
    assert (running.state, running.finished_s) == ("running", 0)
    assert exited.state == "exited" and exited.exit_code in (137, 143)
    assert created.created_s <= running.started_s <= exited.finished_s
    assert (running.name, running.attempt, running.annotations) == ("main", 3, {"hash": "h"})
    assert (running.sandbox_id, running.image) == (pod.sandbox_id, TAG)
    assert running.image_id.startswith("sha256:")


async def test_a_list_names_all_containers_but_no_sandbox(runtime: Runtime, pod: Pod) -> None:
    failed = await pod.run("sh", "-c", "exit 4", name="failed")
    await pod.ended(failed)
    running = await pod.run(*FOREVER, name="running")
    listed = {container.id: container for container in await runtime.list_containers()}
    assert listed.keys() == {failed, running}
    assert (listed[failed].state, listed[failed].exit_code) == ("exited", 4)
    assert listed[running].state == "running"
    assert listed[running].pod_uid == "uid-web-0"


async def test_exit_codes_are_the_commands(pod: Pod) -> None:
    assert await pod.ended(await pod.run("sh", "-c", "exit 3", name="a")) == 3
    assert await pod.ended(await pod.run("true", name="b")) == 0
    assert await pod.ended(await pod.run("false", name="c")) == 1


async def test_a_container_needs_its_image_here(runtime: Runtime, pod: Pod) -> None:
    with pytest.raises(ImageNotFound):
        await runtime.create_container(pod.spec("true", image=MISSING))


async def test_a_container_needs_its_sandbox(runtime: Runtime) -> None:
    pod = Pod(runtime, "nowhere")
    pod.sandbox_id = "0" * 64
    with pytest.raises(RuntimeFailure, match="does not exist"):
        await runtime.create_container(pod.spec("true"))


# Output


async def test_logs_keep_streams_apart_and_in_order(pod: Pod) -> None:
    container_id = await pod.run("sh", "-c", "echo one; sleep 0.1; echo two >&2; sleep 0.1; echo three")
    assert await pod.output(container_id) == [
        ("stdout", b"one"),
        ("stderr", b"two"),
        ("stdout", b"three"),
    ]


async def test_logs_can_be_cut_to_their_tail_and_to_a_time(runtime: Runtime, pod: Pod) -> None:
    container_id = await pod.run("sh", "-c", "echo one; echo two; sleep 1.2; echo three")
    await pod.ended(container_id)
    everything = [line async for line in runtime.logs(container_id, LogOptions())]
    tail = [line.data async for line in runtime.logs(container_id, LogOptions(tail_lines=2))]
    none = [line async for line in runtime.logs(container_id, LogOptions(tail_lines=0))]
    facts = await runtime.inspect_container(container_id)
    assert facts is not None
    late = LogOptions(since_s=facts.started_s + 0.9)
    assert [line.data async for line in runtime.logs(container_id, late)] == [b"three"]
    assert [line.data for line in everything] == [b"one", b"two", b"three"]
    assert tail == [b"two", b"three"] and none == []
    assert everything[0].time.endswith("Z") and len(everything[0].time) >= 27


async def test_logs_that_are_followed_end_with_the_container(runtime: Runtime, pod: Pod) -> None:
    container_id = await pod.run("sh", "-c", "echo ready; sleep 30")
    lines = runtime.logs(container_id, LogOptions(follow=True))
    async with asyncio.timeout(20):
        assert (await anext(lines)).data == b"ready"
        await runtime.stop_container(container_id, 0)
        assert [line async for line in lines] == []


async def test_output_without_a_final_newline_is_partial(real_pod: Pod) -> None:
    container_id = await real_pod.run("sh", "-c", "printf 'no end'")
    await real_pod.ended(container_id)
    (line,) = [line async for line in real_pod.runtime.logs(container_id, LogOptions())]
    assert (line.data, line.partial) == (b"no end", True)


# Exec and attach


async def test_exec_sync_returns_code_and_output(runtime: Runtime, pod: Pod) -> None:
    container_id = await pod.run(*FOREVER)
    assert await runtime.exec_sync(container_id, ["echo", "hi"], 20) == (0, b"hi\n")
    code, output = await runtime.exec_sync(container_id, ["sh", "-c", "echo bad; exit 5"], 20)
    assert (code, output) == (5, b"bad\n")


async def test_exec_sync_gives_up_in_time(runtime: Runtime, pod: Pod) -> None:
    container_id = await pod.run(*FOREVER)
    with pytest.raises(TimeoutError, match=r"timed out after 0\.3 s"):
        await runtime.exec_sync(container_id, ["sleep", "40"], 0.3)


async def test_an_exec_that_timed_out_is_killed(real_pod: Pod, supervisor: Supervisor) -> None:
    container_id = await real_pod.run(*FOREVER)
    with pytest.raises(TimeoutError):
        await real_pod.runtime.exec_sync(container_id, ["sleep", "4321"], 0.3)
    async with asyncio.timeout(20):
        while any("kill-exec" in name for name in supervisor.names):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        while b"4321" in (await real_pod.runtime.exec_sync(container_id, ["ps"], 20))[1]:
            pass


@pytest.mark.parametrize(
    ("command", "tty"),
    [("sleep 4322", True), ("yes 4322", False), ("yes 4322 >&2", False)],
)
async def test_an_exec_whose_client_has_gone_does_not_stay(real_pod: Pod, command: str, tty: bool) -> None:
    """A shut terminal hangs up, a pipe without a reader breaks; other processes are not touched."""
    runtime, container_id = real_pod.runtime, await real_pod.run("sleep", "infinity")
    streams = await runtime.exec(container_id, ["sh", "-c", f"exec {command}"], stdin=True, tty=tty)
    if not tty:
        assert await streams.read() is not None
    await streams.close()
    async with asyncio.timeout(20):
        while b"4322" in (await runtime.exec_sync(container_id, ["ps"], 20))[1]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    assert b"sleep infinity" in (await runtime.exec_sync(container_id, ["ps"], 20))[1]


async def test_a_silent_exec_goes_on_without_its_client(real_pod: Pod) -> None:
    runtime, container_id = real_pod.runtime, await real_pod.run("sleep", "infinity")
    script = "cat > /dev/null; sleep 1; touch /tmp/done"
    streams = await runtime.exec(container_id, ["sh", "-c", script], stdin=True, tty=False)
    await streams.close()
    async with asyncio.timeout(20):
        while (await runtime.exec_sync(container_id, ["test", "-e", "/tmp/done"], 20))[0]:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def test_exec_streams_both_ways_until_stdin_ends(runtime: Runtime, pod: Pod) -> None:
    container_id = await pod.run(*FOREVER)
    streams = await runtime.exec(container_id, ["cat"], stdin=True, tty=False)
    await streams.write(b"there and ")
    await streams.write(b"back\n")
    await streams.close_stdin()
    assert await read_all(streams) == {"stdout": b"there and back\n", "stderr": b""}
    assert await streams.wait() == 0
    await streams.close()


async def test_exec_keeps_stderr_apart_and_reports_the_exit_code(runtime: Runtime, pod: Pod) -> None:
    container_id = await pod.run(*FOREVER)
    streams = await runtime.exec(
        container_id, ["sh", "-c", "echo out; echo err >&2; exit 9"], stdin=False, tty=False
    )
    assert await read_all(streams) == {"stdout": b"out\n", "stderr": b"err\n"}
    assert await streams.wait() == 9
    await streams.close()


async def test_exec_needs_a_running_container(runtime: Runtime, pod: Pod) -> None:
    container_id = await pod.run("true")
    await pod.ended(container_id)
    with pytest.raises(RuntimeFailure, match="not running"):
        await runtime.exec(container_id, ["true"], stdin=False, tty=False)


async def test_a_terminal_has_the_size_that_was_set(real_pod: Pod) -> None:
    container_id = await real_pod.run(*FOREVER)
    streams = await real_pod.runtime.exec(container_id, ["sh"], stdin=True, tty=True)
    await streams.resize(97, 31)
    await streams.write(b"stty size\nexit 6\n")
    output = await read_all(streams)
    assert b"31 97" in output["stdout"] and output["stderr"] == b""
    assert await streams.wait() == 6
    await streams.close()


async def test_a_megabyte_passes_through_exec_unharmed(real_pod: Pod) -> None:
    container_id = await real_pod.run(*FOREVER)
    data = secrets.token_bytes(1 << 20)
    streams = await real_pod.runtime.exec(container_id, ["cat"], stdin=True, tty=False)
    read = asyncio.ensure_future(read_all(streams))
    await streams.write(data)
    await streams.close_stdin()
    assert (await read)["stdout"] == data
    await streams.close()


async def test_attach_joins_the_main_process(runtime: Runtime, pod: Pod) -> None:
    container_id = await runtime.create_container(pod.spec("cat", stdin=True, stdin_once=True))
    await runtime.start_container(container_id)
    streams = await runtime.attach(container_id, stdin=True, tty=False)
    await streams.write(b"hello\n")
    await streams.close_stdin()
    assert (await read_all(streams))["stdout"] == b"hello\n"
    assert await pod.ended(container_id) == 0
    await streams.close()


# Images


async def test_an_image_is_found_under_every_way_to_write_it(runtime: Runtime) -> None:
    image = await runtime.image(TAG)
    assert image is not None and TAG in image.tags
    assert await runtime.image(image.id) == image
    assert image.id in [listed.id for listed in await runtime.list_images()]


async def test_the_files_of_an_image_are_a_volume_that_keeps_it(engine: Runtime, tmp_path: Path) -> None:
    image, target = await engine.image(TAG), tmp_path / "image"
    assert image is not None
    target.mkdir()
    for _ in range(2):
        await engine.mount_image(image.id, str(target))
    try:
        assert await asyncio.to_thread((target / "etc/passwd").read_text) != ""
        with pytest.raises(OSError, match="Read-only file system"):
            await asyncio.to_thread((target / "new").touch)
        assert await engine.list_containers() == [] and await engine.list_sandboxes() == []
    finally:
        for _ in range(2):
            await engine.unmount_image(str(target))
    assert list(target.iterdir()) == []


async def test_an_image_that_is_not_here_is_none(runtime: Runtime) -> None:
    assert await runtime.image(MISSING) is None


async def test_a_pull_that_fails_names_the_image(runtime: Runtime) -> None:
    with pytest.raises(RuntimeFailure, match="nobody/nothing:7") as failure:
        await runtime.pull(MISSING)
    assert failure.value.reason == "ErrImagePull"


async def test_what_is_no_reference_is_refused(runtime: Runtime) -> None:
    with pytest.raises(RuntimeFailure) as failure:
        await runtime.image("Not An Image")
    assert failure.value.reason == "InvalidImageName"


async def test_removing_an_image_that_is_absent_is_fine(runtime: Runtime) -> None:
    await runtime.remove_image("sha256:" + "0" * 64)


async def test_a_pull_logs_in_and_fetches_what_runs_here_once(containerd: ContainerdRuntime) -> None:
    files = {"/bin/busybox": Entry(BUSYBOX.read_bytes())}
    async with serving(build("any:1", files, {"Entrypoint": ["/bin/busybox"]})) as registry:
        name = f"{registry.address}/team/tool:1"
        image = await containerd.pull(name, RegistryAuth(registry.address, USER, PASSWORD))
        assert image.tags == (name,) and await containerd.image(name) == image
        assert [digest.partition("@")[0] for digest in image.digests] == [f"{registry.address}/team/tool"]
        assert f"manifests/{registry.digest}" in registry.asked
        again = await containerd.pull(name, RegistryAuth(registry.address, USER, PASSWORD))
        assert again == image and len(registry.asked) == len(set(registry.asked)) + 2
        pod = await Pod(containerd, "pulled").open()
        assert await pod.output(await pod.run(args=("echo", "it runs"), image=name)) == [
            ("stdout", b"it runs")
        ]
        await containerd.remove_sandbox(pod.sandbox_id)
        await containerd.remove_image(image.id)
        assert await containerd.image(name) is None


async def test_a_pull_says_what_is_wrong(containerd: ContainerdRuntime) -> None:
    async with serving(busybox_archive("other:1")) as registry:
        good = RegistryAuth(registry.address, USER, PASSWORD)
        for tag, auth, words in (
            ("1", None, "access denied.*wrong password"),
            ("1", RegistryAuth(registry.address, USER, "guess"), "access denied.*wrong password"),
            ("2", good, "not found: .*manifest unknown"),
        ):
            with pytest.raises(ImageNotFound, match=words):
                await containerd.pull(f"{registry.address}/team/secret:{tag}", auth)


async def test_what_a_registry_delivers_must_have_the_digest(containerd: ContainerdRuntime) -> None:
    async with serving(build("spoilt:1", {"/file": Entry(secrets.token_bytes(1000))}, {})) as registry:
        registry.spoil()
        name = f"{registry.address}/team/spoilt:1"
        with pytest.raises(RuntimeFailure, match="digest"):
            await containerd.pull(name, RegistryAuth(registry.address, USER, PASSWORD))
        assert await containerd.image(name) is None


# Events, stats, restarts


async def test_events_tell_of_starts_ends_and_removals(runtime: Runtime) -> None:
    events = runtime.events()
    first = asyncio.ensure_future(anext(events))
    await asyncio.sleep(0.2)
    pod = await Pod(runtime, "noisy").open()
    container_id = await pod.run("true")
    await pod.ended(container_id)
    await runtime.remove_container(container_id)
    async with asyncio.timeout(20):
        seen = [await first]
        while seen[-1].container_id != container_id or seen[-1].kind != "removed":
            seen.append(await anext(events))
    await events.aclose()  # type: ignore[attr-defined]
    assert {event.pod_uid for event in seen} == {"uid-noisy"}
    assert [event.kind for event in seen if event.container_id == pod.sandbox_id] == ["started"]
    kinds = [event.kind for event in seen if event.container_id == container_id]
    assert kinds == ["started", "exited", "removed"]


async def test_stats_are_those_of_a_running_container(runtime: Runtime, pod: Pod) -> None:
    container_id = await pod.run(*FOREVER)
    stats = await runtime.stats(container_id)
    assert stats is not None and stats.cpu_ns >= 0
    assert 0 < stats.memory_working_set_bytes <= stats.memory_usage_bytes
    await runtime.stop_container(container_id, 0)
    assert await runtime.stats(container_id) is None


async def test_a_restarted_daemon_finds_all_and_another_instance_nothing(
    docker_socket: str, docker_pod: Pod, supervisor: Supervisor
) -> None:
    container_id = await docker_pod.run(*FOREVER)
    before = await docker_pod.runtime.list_sandboxes()
    instance = docker_pod.runtime._instance  # type: ignore[attr-defined]
    again = DockerRuntime(docker_socket, instance, SystemClock(), supervisor)
    stranger = DockerRuntime(docker_socket, "ffffff", SystemClock(), supervisor)
    for other in (again, stranger):
        await other.connect()
    assert await again.list_sandboxes() == before
    assert [container.id for container in await again.list_containers()] == [container_id]
    docker_pod.runtime = again
    second = await docker_pod.run(*FOREVER, name="second")
    assert await again.exec_sync(second, ["hostname"], 20) == (0, b"web-0\n")
    assert await stranger.list_sandboxes() == [] and await stranger.list_containers() == []
    assert await stranger.inspect_container(container_id) is None
    for other in (again, stranger):
        await other.close()


async def test_a_restarted_daemon_goes_on_with_what_runs_on_containerd(
    containerd_place: Place, containerd: ContainerdRuntime, supervisor: Supervisor
) -> None:
    first = containerd_at(containerd_place, supervisor)
    await first.connect()
    pod = await Pod(first, "web-0").open(pid="pod")
    container_id = await pod.run("sh", "-c", "echo before; sleep 1; echo after; exit 7")
    before = await first.list_sandboxes()
    await first.close()
    again = containerd_at(containerd_place, supervisor)
    stranger = containerd_at(containerd_place, supervisor, "ffffff")
    for other in (again, stranger):
        await other.connect()
    assert await again.list_sandboxes() == before
    pod.runtime = again
    assert await pod.ended(container_id) == 7
    assert [data for _, data in await pod.output(container_id)] == [b"before", b"after"]
    second = await pod.run(*FOREVER, name="second")
    assert await again.exec_sync(second, ["hostname"], 20) == (0, b"web-0\n")
    assert await stranger.list_sandboxes() == [] and await stranger.list_containers() == []
    assert await stranger.inspect_container(container_id) is None
    await again.remove_sandbox(pod.sandbox_id)
    for other in (again, stranger):
        await other.close()


async def until_it_answers(runtime: Runtime) -> None:
    """A connection that failed is tried again after a pause of up to a second."""
    async with asyncio.timeout(20):
        while True:
            try:
                await runtime.version()
                return
            except RuntimeUnavailable:
                await asyncio.sleep(0.1)


async def test_a_start_that_was_broken_off_is_no_end(
    containerd_place: Place, containerd: ContainerdRuntime, supervisor: Supervisor
) -> None:
    """The log is there before the process: whoever looks in between, or dies there, sees what is merely created."""
    pod = await Pod(containerd, "halfway").open()
    container_id = await containerd.create_container(pod.spec("sh", "-c", "echo once; exit 5"))
    async with asyncio.timeout(60):
        start = asyncio.create_task(containerd.start_container(container_id))
        log = await asyncio.to_thread(log_of, containerd_place, "halfway")
        start.cancel()
        await asyncio.wait([start])
    again = containerd_at(containerd_place, supervisor)
    await again.connect()
    facts = await again.inspect_container(container_id)
    assert facts is not None
    if facts.state != "exited":
        await again.start_container(container_id)
    assert await Pod(again, "halfway").ended(container_id) == 5
    assert (await asyncio.to_thread(log.read_text)).count("once") == 1
    await again.remove_sandbox(pod.sandbox_id)
    await again.close()


def log_of(place: Place, name: str) -> Path:
    """As soon as it is there."""
    for _ in range(60_000):
        for log in place.directory.glob(f"**/testing_{name}_*/main/0.log"):
            return log
        time.sleep(0.001)
    raise AssertionError(f"no log of {name}")


async def test_what_happened_while_containerd_was_away_is_found_when_it_is_back(
    containerd_place: Place, supervisor: Supervisor
) -> None:
    """With an engine of its own: the others' stays."""
    with tempfile.TemporaryDirectory(prefix="orcc", dir="/tmp", ignore_cleanup_errors=True) as name:
        directory = Path(name)
        place = Place(f"{name}/c.sock", secrets.token_hex(3), directory)
        with containerd_started(directory):
            runtime = containerd_at(place, supervisor)
            await runtime.connect()
            await runtime.load_image(busybox_archive())
            pod = await Pod(runtime, "web-0").open()
            script = "echo before; while [ ! -e /go/on ]; do sleep 0.1; done; echo after; exit 5"
            container_id = await pod.run("sh", "-c", script, mounts=[Mount(name, "/go")])
        with pytest.raises(RuntimeUnavailable):
            await runtime.inspect_container(container_id)
        (directory / "on").touch()
        await asyncio.sleep(0.5)
        with containerd_started(directory):
            await until_it_answers(runtime)
            assert await pod.ended(container_id) == 5
            assert [data for _, data in await pod.output(container_id)] == [b"before", b"after"]
            assert [sandbox.running for sandbox in await runtime.list_sandboxes()] == [True]
            await runtime.remove_sandbox(pod.sandbox_id)
            await runtime.close()
            await asyncio.to_thread(cgroups.remove, f"/orchestrator-{place.instance}")


async def test_an_engine_that_is_not_there_is_unavailable(supervisor: Supervisor) -> None:
    runtime = DockerRuntime("/nonexistent/docker.sock", "aaaaaa", SystemClock(), supervisor)
    with pytest.raises(RuntimeUnavailable):
        await runtime.version()
    await runtime.close()


# What only a real engine can show


async def test_containers_of_a_pod_share_network_ipc_and_host_name(real_pod: Pod) -> None:
    runtime = real_pod.runtime
    ids = [await real_pod.run(*FOREVER, name=name) for name in ("a", "b")]
    (sandbox,) = await runtime.list_sandboxes()
    facts = [await runtime.inspect_container(container_id) for container_id in ids]
    places = [f"/proc/{fact.pid}/ns" for fact in facts if fact]
    networks = {os.stat(path).st_ino for path in (sandbox.netns_path, *(f"{place}/net" for place in places))}
    assert len(networks) == 1 and os.stat("/proc/self/ns/net").st_ino not in networks
    assert len({os.stat(f"{place}/ipc").st_ino for place in places}) == 1
    assert len({os.stat(f"{place}/pid").st_ino for place in places}) == 2
    assert await runtime.exec_sync(ids[0], ["hostname"], 20) == (0, b"web-0\n")


async def test_in_a_shared_process_namespace_the_pause_program_reaps_orphans(engine: Runtime) -> None:
    pod = await Pod(engine, "shared").open(pid="pod")
    container_id = await pod.run("sh", "-c", "(sh -c 'sleep 0.05 & exec true' &) ; sleep infinity")
    code, processes = await engine.exec_sync(container_id, ["ps", "-o", "pid,stat,args"], 20)
    assert code == 0 and b"/pause" in processes
    async with asyncio.timeout(10):
        while b" Z" in processes or b"0.05" in processes:
            processes = (await engine.exec_sync(container_id, ["ps", "-o", "pid,stat,args"], 20))[1]


async def test_the_pause_program_ends_at_once_when_asked(docker: DockerRuntime) -> None:
    pod = await Pod(docker, "quick").open()
    await docker.stop_container(pod.sandbox_id, 10)
    facts = await docker.inspect_container(pod.sandbox_id)
    assert facts is not None and (facts.state, facts.exit_code) == ("exited", 0)


async def test_what_is_asked_of_a_container_reaches_its_process(real_pod: Pod, open_directory: Path) -> None:
    (open_directory / "file").write_text("from the host\n")
    script = (
        "id -u; id -G; echo $GREETING; pwd; cat /data/file; "
        "touch /data/x 2>/dev/null || echo fixed; touch /y 2>/dev/null || echo frozen; "
        "grep -E 'NoNewPrivs|CapEff' /proc/self/status; cat /proc/self/oom_score_adj; "
        "cat /sys/fs/cgroup/memory/memory.limit_in_bytes 2>/dev/null || cat /sys/fs/cgroup/memory.max"
    )
    container_id = await real_pod.run(
        "sh",
        args=("-c", script),
        env=[("GREETING", "good day")],
        working_dir="/tmp",
        mounts=[Mount(str(open_directory), "/data", read_only=True)],
        resources=Resources(memory_limit_bytes=64 << 20, cpu_shares=102, pids_limit=50, oom_score_adj=500),
        security=Security(
            user="1000:1000",
            supplemental_groups=(2000,),
            read_only_rootfs=True,
            no_new_privileges=True,
            drop_capabilities=("ALL",),
        ),
    )
    lines = [data.decode() for _, data in await real_pod.output(container_id)]
    assert lines == [
        *("1000", "1000 2000", "good day", "/tmp", "from the host", "fixed", "frozen"),
        *("CapEff:\t0000000000000000", "NoNewPrivs:\t1", "500", str(64 << 20)),
    ]


@pytest.mark.skipif(Path("/sys/fs/cgroup/cgroup.controllers").exists(), reason="reads the files of cgroup v1")
async def test_the_resources_of_a_running_container_change_in_place(real_pod: Pod) -> None:
    engine = real_pod.runtime
    before = Resources(memory_limit_bytes=64 << 20, cpu_shares=102, cpu_quota_us=10_000)
    container_id = await real_pod.run(*FOREVER, resources=before)
    change = Resources(memory_limit_bytes=96 << 20, cpu_shares=204, cpu_quota_us=20_000)
    await engine.update_resources(container_id, change)
    assert await _in_force(engine, container_id) == (96 << 20, 204, 20_000)
    await engine.update_resources(container_id, Resources(memory_limit_bytes=48 << 20))
    assert await _in_force(engine, container_id) == (48 << 20, 204, 20_000)
    facts = await engine.inspect_container(container_id)
    assert facts is not None and facts.state == "running"


def limits_in_force(pid: int) -> list[int]:
    """Memory limit, CPU shares and CPU quota of a process, as cgroup v1 has them."""
    lines = (line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    places = {name: path for _, names, path in lines for name in names.split(",")}
    files = ("memory/memory.limit_in_bytes", "cpu/cpu.shares", "cpu/cpu.cfs_quota_us")
    return [
        int(Path(f"/sys/fs/cgroup/{name}{places[name]}/{file}").read_text())
        for name, file in (path.split("/") for path in files)
    ]


def pids_limits(name: str) -> list[Path]:
    """The files that bound the processes of a pod."""
    return [*Path("/sys/fs/cgroup").glob(f"**/orchestrator-*/burstable/poduid-{name}/pids.max")]


async def _in_force(engine: Runtime, container_id: str) -> tuple[int, int, int]:
    """Memory limit, shares and quota of the container's cgroup (v1), read from the host."""
    facts = await engine.inspect_container(container_id)
    assert facts is not None
    found = limits_in_force(facts.pid)
    return found[0], found[1], found[2]


async def test_changing_what_does_not_run_changes_nothing(pod: Pod) -> None:
    container_id = await pod.run("true")
    await pod.ended(container_id)
    before = await pod.runtime.inspect_container(container_id)
    await pod.runtime.update_resources(container_id, Resources(cpu_shares=204))
    await pod.runtime.update_resources("0" * 64, Resources(cpu_shares=204))
    assert await pod.runtime.inspect_container(container_id) == before


async def test_all_containers_of_a_pod_share_its_limits_and_its_cgroup_goes_with_it(engine: Runtime) -> None:
    name = f"limited-{secrets.token_hex(3)}"
    group = PodCgroup(f"burstable/poduid-{name}", cpu_shares=200, memory_limit_bytes=64 << 20, pids_limit=12)
    pod = await Pod(engine, name).open(cgroup_parent=group.path)
    script = "for i in $(seq 20); do sleep 60 & done; echo all"
    bombs = [await pod.run("sh", "-c", script, name=each, cgroup=group) for each in ("one", "two")]
    output = [line for bomb in bombs for _, line in await pod.output(bomb)]
    assert any(b"can't fork" in line for line in output)
    assert [path.read_text() for path in pids_limits(name)] == ["12\n"]
    await engine.remove_sandbox(pod.sandbox_id)
    assert not pids_limits(name)


async def test_a_device_is_there_and_no_other(real_pod: Pod) -> None:
    container_id = await real_pod.run(
        *("sh", "-c", "echo x > /dev/sink && echo written; ls /dev/fuse /dev/sink; mknod /k c 1 11; cat /k"),
        devices=[Device("/dev/null", "/dev/sink", "rw")],
    )
    lines = [line for _, line in await real_pod.output(container_id)]
    assert b"written" in lines and b"/dev/sink" in lines and b"/dev/fuse" not in lines
    assert any(b"Operation not permitted" in line for line in lines)


async def test_one_container_sees_the_processes_of_another(real_pod: Pod) -> None:
    target = await real_pod.run("sleep", "1234", name="target")
    container_id = await real_pod.run("ps", "-o", "args", name="debugger", target_id=target)
    assert any(b"sleep 1234" in line for _, line in await real_pod.output(container_id))


async def test_sysctls_are_the_pods_own(engine: Runtime) -> None:
    wanted = {"net.ipv4.tcp_syncookies": "0", "kernel.shm_rmid_forced": "1"}
    pod = await Pod(engine, "tuned").open(sysctls=wanted)
    container_id = await pod.run("sysctl", "-n", *wanted)
    assert await pod.output(container_id) == [("stdout", b"0"), ("stdout", b"1")]


async def test_a_runtime_that_the_host_lacks_is_refused_by_name(engine: Runtime) -> None:
    with pytest.raises(RuntimeFailure, match="test-handler"):
        await Pod(engine, "odd").open(runtime_handler="test-handler")
    assert await engine.list_sandboxes() == []
    assert (await engine.handlers())[0] == ""


async def test_nothing_is_hidden_from_a_container_that_wants_to_see_all(real_pod: Pod) -> None:
    show = ("sh", "-c", "grep -c ' /proc/' /proc/mounts")
    hidden = await real_pod.output(await real_pod.run(*show, name="usual"))
    shown = await real_pod.output(await real_pod.run(*show, name="open", security=Security(unmasked=True)))
    assert hidden > shown == [("stdout", b"0")]


async def test_a_score_that_the_host_forbids_does_not_stop_a_container(real_pod: Pod) -> None:
    container_id = await real_pod.run("true", resources=Resources(oom_score_adj=-997))
    assert await real_pod.ended(container_id) == 0


async def test_a_container_beyond_its_memory_is_oomkilled(real_pod: Pod) -> None:
    container_id = await real_pod.run(
        *("sh", "-c", "x=$(head -c 200m /dev/zero | tr '\\0' x); echo $x | wc -c; sleep 1"),
        resources=Resources(memory_limit_bytes=16 << 20),
    )
    assert await real_pod.ended(container_id) == 137
    facts = await real_pod.runtime.inspect_container(container_id)
    assert facts is not None and facts.reason == "OOMKilled"


async def test_a_command_that_does_not_exist_fails_the_start_with_a_reason(real_pod: Pod) -> None:
    container_id = await real_pod.runtime.create_container(real_pod.spec("/nothing/here"))
    with pytest.raises(RuntimeFailure, match="/nothing/here") as failure:
        await real_pod.runtime.start_container(container_id)
    facts = await real_pod.runtime.inspect_container(container_id)
    assert failure.value.reason == "RunContainerError"
    assert facts is not None and (facts.state, facts.reason) == ("exited", "StartError")
    assert facts.exit_code != 0 and "/nothing/here" in facts.message


async def test_what_an_interrupted_attempt_left_makes_way(real_pod: Pod) -> None:
    left = await real_pod.runtime.create_container(real_pod.spec("true"))
    again = await real_pod.runtime.create_container(real_pod.spec("true"))
    assert left != again
    assert [container.id for container in await real_pod.runtime.list_containers()] == [again]


async def test_mounts_propagate_as_asked(real_pod: Pod, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("propagation")
    await host("mount", "--bind", "--make-shared", str(directory), str(directory))
    try:
        container_id = await real_pod.run(
            *FOREVER, mounts=[Mount(str(directory), "/shared", propagation="HostToContainer")]
        )
        (directory / "later").mkdir()
        await host("mount", "-t", "tmpfs", "none", str(directory / "later"))
        (directory / "later" / "seen").touch()
        code, output = await real_pod.runtime.exec_sync(container_id, ["ls", "/shared/later"], 20)
        assert (code, output) == (0, b"seen\n")
    finally:
        await host("umount", "-R", str(directory))
