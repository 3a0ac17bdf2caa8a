"""Addresses: unique, never lost, in turn; whatever the order of events and wherever the process dies."""

import ipaddress
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from orchestrator.base.clock import VirtualClock
from orchestrator.network.dataplane import ipam
from orchestrator.network.dataplane.interface import NetworkError
from orchestrator.network.dataplane.ipam import AddressPool

CIDR = "10.42.7.0/28"
USABLE = 13
SANDBOXES = st.integers(0, 20).map(lambda n: f"sandbox{n}")


def pool_at(folder, clock=None):
    pool = AddressPool(CIDR, folder, (clock or VirtualClock()).monotonic_s)
    pool.load()
    return pool


class Crash(Exception):
    pass


class Lives(RuleBasedStateMachine):
    """A pool that is killed at every step of noting an address, against a model of who has what."""

    def __init__(self):
        super().__init__()
        self.holder = tempfile.TemporaryDirectory()
        self.folder = Path(self.holder.name)
        self.pool = pool_at(self.folder)
        self.model = {}

    def teardown(self):
        self.holder.cleanup()

    @rule(sandbox=SANDBOXES)
    def assign(self, sandbox):
        if len(self.model) == USABLE and sandbox not in self.model:
            with pytest.raises(NetworkError, match="no address left"):
                self.pool.assign(sandbox)
            return
        address, index = self.pool.assign(sandbox)
        assert self.model.setdefault(sandbox, address) == address
        assert int(ipaddress.ip_address(address)) == int(ipaddress.ip_network(CIDR).network_address) + index

    @rule(sandbox=SANDBOXES)
    def release(self, sandbox):
        self.pool.release(sandbox)
        self.model.pop(sandbox, None)

    @rule()
    def restart(self):
        self.pool = pool_at(self.folder)

    @precondition(lambda self: len(self.model) < USABLE)
    @rule(sandbox=SANDBOXES, step=st.sampled_from(["before link", "after link"]))
    def die_while_assigning(self, sandbox, step):
        if sandbox in self.model:
            return
        link = ipam.os.link

        def dying(source, target):
            if step == "after link":
                link(source, target)
            raise Crash

        ipam.os.link = dying
        try:
            self.pool.assign(sandbox)
        except Crash:
            pass
        finally:
            ipam.os.link = link
        self.pool = pool_at(self.folder)
        if found := self.pool.find(sandbox):
            self.model[sandbox] = found[0]
        assert (sandbox in self.model) == (step == "after link")

    @invariant()
    def nobody_shares_and_nobody_is_forgotten(self):
        found = {sandbox: self.pool.find(sandbox) for sandbox in self.pool.owners()}
        assert {sandbox: address for sandbox, (address, _) in found.items()} == self.model
        assert len(set(self.model.values())) == len(self.model)
        taken = set(self.model.values())
        assert {file.name for file in self.folder.iterdir()} == taken
        assert taken.isdisjoint({"10.42.7.0", "10.42.7.1", "10.42.7.15"})


TestLives = Lives.TestCase
TestLives.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


def test_addresses_go_round_and_a_released_one_rests(tmp_path):
    clock = VirtualClock()
    pool = pool_at(tmp_path, clock)
    assert [pool.assign(f"s{n}")[0] for n in range(3)] == ["10.42.7.2", "10.42.7.3", "10.42.7.4"]
    pool.release("s0")
    assert [pool.assign(f"t{n}")[1] for n in range(10)] == list(range(5, 15))
    assert pool.assign("last")[0] == "10.42.7.2", "the only free address is given even if it should rest"


async def test_a_rested_address_is_preferred(tmp_path):
    clock = VirtualClock()
    pool = pool_at(tmp_path, clock)
    for n in range(USABLE):
        pool.assign(f"s{n}")
    pool.release("s5")
    await clock.advance(ipam.REUSE_DELAY_S + 1)
    pool.release("s2")
    assert pool.assign("next")[0] == "10.42.7.7"
    assert pool.assign("then")[0] == "10.42.7.4"


def test_a_new_process_goes_on_after_the_newest_address(tmp_path):
    pool = pool_at(tmp_path)
    for n in range(4):
        pool.assign(f"s{n}")
    assert pool_at(tmp_path).assign("new")[1] == 6


def test_files_that_are_no_addresses_are_removed(tmp_path):
    for name, text in (
        ("10.42.7.9", ""),
        ("10.42.9.1", "x"),
        (".10.42.7.3", "y"),
        ("10.42.7.1", "z"),
        ("junk", ""),
    ):
        (tmp_path / name).write_text(text)
    assert pool_at(tmp_path).owners() == {}
    assert list(tmp_path.iterdir()) == []


def test_an_impossible_range_is_refused():
    with pytest.raises(NetworkError, match="/31"):
        AddressPool("10.0.0.0/31", None, VirtualClock().monotonic_s)
