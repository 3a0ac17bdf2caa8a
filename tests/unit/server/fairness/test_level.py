"""Seats, queues, lending: who starts, who waits, who is refused."""

import asyncio
from dataclasses import replace

import pytest

from orchestrator.base.tasks import Supervisor
from orchestrator.server.fairness.defaults import priority_levels
from orchestrator.server.fairness.level import Level, Pool, Rejected, Shape, deal, shape_of

QUEUED = Shape(shares=10, queues=8, hand_size=2, queue_length_max=3)


def _pool(seats_max: int, **shapes: Shape) -> Pool:
    pool = Pool(seats_max)
    pool.configure((name, f"uid-{name}", shape) for name, shape in shapes.items())
    return pool


def _fill(level: Level) -> int:
    count = 0
    while level.try_enter(1):
        count += 1
    return count


def test_the_default_levels_share_the_seats_as_kubernetes_does() -> None:
    pool = Pool(600)
    objects = priority_levels()
    pool.configure((obj["metadata"]["name"], "", shape_of(obj["spec"])) for obj in objects)
    nominal = {name: level.nominal for name, level in pool.levels.items()}
    assert nominal == {
        "exempt": 0, "catch-all": 13, "global-default": 49, "leader-election": 25, "node-high": 98,
        "system": 74, "workload-high": 98, "workload-low": 245,
    }  # fmt: skip
    assert pool.levels["workload-low"].lower == 245 - 220


def test_a_level_borrows_what_others_lend_and_leaves_them_their_own() -> None:
    lending = replace(QUEUED, lendable_percent=50)
    pool = _pool(20, a=QUEUED, b=lending)
    a, b = pool.levels["a"], pool.levels["b"]
    assert _fill(a) == 15  # ten of its own and half of b's
    assert _fill(b) == 10  # its own, although they are lent: these requests end soon
    a.leave(1)
    assert not a.try_enter(1)  # more than the whole server is busy: nobody borrows


def test_borrowing_stops_at_the_levels_own_bound() -> None:
    pool = _pool(20, a=replace(QUEUED, borrowing_percent=20), b=replace(QUEUED, lendable_percent=100))
    assert _fill(pool.levels["a"]) == 12


def test_exempt_requests_always_start() -> None:
    pool = _pool(1, e=Shape(exempt=True, shares=0))
    assert all(pool.levels["e"].try_enter(1) for _ in range(100))


async def test_a_level_without_queues_refuses_at_once() -> None:
    level = _pool(1, a=Shape(shares=1)).levels["a"]
    assert level.try_enter(1)
    with pytest.raises(Rejected, match="concurrency-limit"):
        await level.wait(1, "f")


async def test_who_waits_starts_when_a_seat_is_free_and_in_order() -> None:
    level = _pool(1, a=replace(QUEUED, queues=1, hand_size=1)).levels["a"]
    assert level.try_enter(1)
    order: list[int] = []

    async def work(number: int) -> None:
        await level.wait(1, "f")
        order.append(number)
        level.leave(1)

    tasks = Supervisor("test")
    waiting = [tasks.spawn(str(number), work(number)) for number in range(3)]
    await asyncio.sleep(0)
    assert not level.try_enter(1) and level.waiting == 3
    level.leave(1)
    await asyncio.gather(*waiting)
    assert order == [0, 1, 2]
    assert (level.seats, level.executing, level.waiting) == (0, 0, 0)


async def test_a_full_hand_refuses_and_leaves_other_flows_room() -> None:
    level = _pool(1, a=QUEUED).levels["a"]
    assert level.try_enter(1)
    tasks = Supervisor("test")
    for number in range(6):
        tasks.spawn(str(number), level.wait(1, "flood"))
    await asyncio.sleep(0)
    with pytest.raises(Rejected, match="queue-full"):
        await level.wait(1, "flood")
    others = [f"flow{n}" for n in range(50) if not set(deal(f"flow{n}", 8, 2)) & set(deal("flood", 8, 2))]
    tasks.spawn("other", level.wait(1, others[0]))
    await asyncio.sleep(0)
    assert level.waiting == 7
    await tasks.stop()
    assert level.waiting == 0


async def test_a_flooding_flow_does_not_keep_another_waiting() -> None:
    level = _pool(1, a=replace(QUEUED, hand_size=1, queue_length_max=50)).levels["a"]
    assert level.try_enter(1)
    started: list[str] = []

    async def work(flow: str) -> None:
        await level.wait(1, flow)
        started.append(flow)
        level.leave(1)

    quiet = next(f"q{n}" for n in range(50) if deal(f"q{n}", 8, 1) != deal("flood", 8, 1))
    tasks = Supervisor("test")
    all_ = [tasks.spawn(str(number), work("flood")) for number in range(20)]
    all_.append(tasks.spawn("quiet", work(quiet)))
    await asyncio.sleep(0)
    level.leave(1)
    await asyncio.gather(*all_)
    assert started.index(quiet) <= 1


async def test_waiting_is_bounded_in_time_and_leaves_nothing_behind() -> None:
    level = _pool(1, a=QUEUED).levels["a"]
    assert level.try_enter(1)
    with pytest.raises(Rejected, match="time-out"):
        await level.wait(1, "f", limit_s=0.001)
    level.leave(1)
    assert (level.seats, level.waiting) == (0, 0)
    assert level.try_enter(1)


async def test_a_cancelled_request_that_just_got_its_seat_gives_it_back() -> None:
    level = _pool(1, a=QUEUED).levels["a"]
    assert level.try_enter(1)
    tasks = Supervisor("test")
    waiting = tasks.spawn("w", level.wait(1, "f"))
    await asyncio.sleep(0)
    level.leave(1)
    waiting.cancel()
    await asyncio.wait([waiting])
    assert (level.seats, level.executing, level.waiting) == (0, 0, 0)


@pytest.mark.parametrize("others", [0, 1])
async def test_a_request_that_was_cancelled_but_not_told_yet_gets_no_seat(others: int) -> None:
    level = _pool(1, a=replace(QUEUED, queues=1, hand_size=1)).levels["a"]
    assert level.try_enter(1)
    tasks = Supervisor("test")
    gone = tasks.spawn("gone", level.wait(1, "f"))
    rest = [tasks.spawn("rest", level.wait(1, "f")) for _ in range(others)]
    await asyncio.sleep(0)
    gone.cancel()
    level.leave(1)  # before the cancelled task runs
    await asyncio.wait([gone])
    await asyncio.gather(*rest)
    assert gone.cancelled()
    assert (level.seats, level.executing, level.waiting) == (others, others, 0)


async def test_who_gives_up_no_longer_stands_in_the_way() -> None:
    level = _pool(2, a=replace(QUEUED, queues=1, hand_size=1)).levels["a"]
    assert level.try_enter(1)
    tasks = Supervisor("test")
    wide = tasks.spawn("wide", level.wait(2, "f"))
    await asyncio.sleep(0)
    narrow = tasks.spawn("narrow", level.wait(1, "f"))
    await asyncio.sleep(0)
    assert level.waiting == 2
    wide.cancel()
    await narrow
    assert (level.seats, level.waiting) == (2, 0)


async def test_a_released_seat_goes_to_a_level_that_may_borrow_it() -> None:
    pool = _pool(2, a=replace(QUEUED, shares=1), b=replace(QUEUED, shares=1, lendable_percent=100))
    a, b = pool.levels["a"], pool.levels["b"]
    assert a.try_enter(1) and b.try_enter(1)
    tasks = Supervisor("test")
    waiting = tasks.spawn("a", a.wait(1, "f"))
    await asyncio.sleep(0)
    b.leave(1)
    await waiting
    assert (a.seats, b.seats) == (2, 0)


async def test_more_seats_by_configuration_start_who_waits() -> None:
    pool = _pool(2, a=replace(QUEUED, shares=1), b=replace(QUEUED, shares=1))
    level = pool.levels["a"]
    assert level.try_enter(1)
    waiting = Supervisor("test").spawn("a", level.wait(1, "f"))
    await asyncio.sleep(0)
    pool.configure([("a", "uid", QUEUED)])
    await waiting
    assert pool.levels["a"] is level and level.seats == 2


@pytest.mark.parametrize(("queues", "hand"), [(1, 1), (64, 6), (128, 6), (7, 7)])
def test_a_hand_has_different_queues_and_stays_the_same(queues: int, hand: int) -> None:
    cards = deal("x", queues, hand)
    assert len(set(cards)) == hand and set(cards) <= set(range(queues))
    assert cards == deal("x", queues, hand)
