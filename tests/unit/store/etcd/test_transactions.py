"""What became of a transaction whose answer was lost, read from history; and what may be repeated at all."""

import pytest

from orchestrator.base.clock import VirtualClock
from orchestrator.store.etcd import transactions
from orchestrator.store.etcd.cache import Cache
from orchestrator.store.etcd.keys import Keys
from orchestrator.store.interface import Compare, Delete, Put, StoreError, TooLargeError, Txn
from orchestrator.store.record import DELETE, PUT, VALUE_BYTES_MAX, Operation, Record

CREATE = Txn((Compare("/a", 0),), (Put("/a", b"ours"),))
UPDATE = Txn((Compare("/a", 3),), (Put("/a", b"ours"), Delete("/b")))


def put(key: str, value: bytes) -> Operation:
    return Operation(PUT, 0, key, value)


def delete(key: str) -> Operation:
    return Operation(DELETE, 0, key, b"")


def cache_of(*revisions: list[Operation], start: int = 1) -> Cache:
    cache = Cache(VirtualClock())
    cache.replace(cache.blank(), start)
    cache.apply([Record(start + 1 + number, operations) for number, operations in enumerate(revisions)])
    return cache


@pytest.mark.parametrize(
    ("txn", "expected"),
    [
        (CREATE, True),
        (UPDATE, True),
        (Txn((Compare("/a", 3),), (Delete("/a"),)), True),
        (Txn((Compare("/a", 0),), (Delete("/a"),)), False),  # Nothing would tell the first from the second.
        (Txn((), (Put("/a", b""),)), False),
        (Txn((Compare("/lock", 3),), (Put("/a", b""),)), False),
    ],
)
def test_only_a_write_that_ends_its_own_condition_may_be_repeated(txn: Txn, expected: bool) -> None:
    assert transactions.repeatable(txn) is expected


def test_a_write_that_was_made_is_found_with_its_own_revision() -> None:
    cache = cache_of([put("/x", b"")], [put("/a", b"ours")], [put("/a", b"later")], [delete("/a")])
    result = transactions.trace(CREATE, cache.state, 1)
    assert result is not None and result.succeeded
    assert (result.revision, result.entries[0].value, result.entries[0].version) == (3, b"ours", 1)


def test_a_write_that_may_still_be_made_is_left_open() -> None:
    assert transactions.trace(CREATE, cache_of([put("/x", b"")]).state, 1) is None
    assert transactions.trace(CREATE, cache_of([put("/a", b"theirs")], [delete("/a")]).state, 1) is None


def test_a_write_that_others_forestalled_has_failed() -> None:
    result = transactions.trace(CREATE, cache_of([put("/a", b"theirs")]).state, 1)
    assert result is not None and (result.succeeded, result.failed) == (False, ("/a",))


def test_all_of_a_transaction_must_be_there_and_nothing_else() -> None:
    before = [[put("/b", b"")], [put("/a", b"old")]]
    made = cache_of(*before, [put("/a", b"ours"), delete("/b")])
    found = transactions.trace(UPDATE, made.state, 3)
    assert found is not None and (found.succeeded, found.revision) == (True, 4)
    for other in ([put("/a", b"ours")], [put("/a", b"ours"), put("/b", b"")]):
        found = transactions.trace(UPDATE, cache_of(*before, other).state, 3)
        # A deletion of what is absent is no event, so the first of these might be ours only without `/b`.
        assert found is not None and found.succeeded is (other == [put("/a", b"ours")])
    more = [put("/a", b"ours"), delete("/b"), put("/c", b"")]
    found = transactions.trace(UPDATE, cache_of(*before, more).state, 3)
    assert found is not None and not found.succeeded


def test_the_same_value_on_another_revision_is_not_ours() -> None:
    cache = cache_of([put("/a", b"1")], [put("/a", b"2")], [put("/a", b"ours")])
    result = transactions.trace(Txn((Compare("/a", 2),), (Put("/a", b"ours"),)), cache.state, 2)
    assert result is not None and not result.succeeded


def test_impossible_transactions_are_refused_before_anything_is_sent() -> None:
    with pytest.raises(StoreError, match="twice"):
        transactions.check(Txn((), (Put("/a", b""), Delete("/a"))))
    with pytest.raises(StoreError, match="1 to"):
        transactions.check(Txn((), (Put("", b""),)))
    with pytest.raises(TooLargeError, match="/a"):
        transactions.check(Txn((), (Put("/a", bytes(VALUE_BYTES_MAX + 1)),)))


def test_requests_name_keys_below_the_prefix() -> None:
    keys = Keys("/clusters/one")
    txn = Txn((Compare("/registry/pods/a", 7),), (Put("/registry/pods/a", b"v", 5), Delete("/registry/b")))
    request = transactions.request_of(txn, keys, None)
    assert request["compare"] == [{"target": 2, "key": b"/clusters/one/pods/a", "mod_revision": 7}]
    assert request["success"] == [
        {"put": {"key": b"/clusters/one/pods/a", "value": b"v", "lease": 5}},
        {"delete": {"key": b"/clusters/one/b"}},
    ]
    assert keys.from_etcd(b"/clusters/one/pods/a") == "/registry/pods/a"
    assert (keys.first, keys.end) == (b"/clusters/one/", b"/clusters/one0")
