"""Leases: which keys end with which lease, and when. Owner: the store's state.

Deadlines are monotonic and live in memory only: renewing costs no write, and after a restart every lease
has its whole time to live again, as etcd does it.
"""

from orchestrator.base.clock import Clock


class Lease:
    """A promise to delete `keys` once `deadline_s` has passed."""

    __slots__ = ("deadline_s", "id", "keys", "ttl_s")

    def __init__(self, id: int, ttl_s: int, deadline_s: float) -> None:
        self.id = id
        self.ttl_s = ttl_s
        self.deadline_s = deadline_s
        self.keys: set[str] = set()


class Leases:
    """All leases by id."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._leases: dict[int, Lease] = {}
        self.last = 0
        """The highest id given out so far; ids are never used again."""

    def grant(self, id: int, ttl_s: int) -> None:
        """Begin a lease. Ids are given out once."""
        self._leases[id] = Lease(id, ttl_s, self._clock.monotonic_s() + ttl_s)
        self.last = max(self.last, id)

    def end(self, id: int) -> None:
        self._leases.pop(id, None)

    def get(self, id: int) -> Lease | None:
        return self._leases.get(id)

    def renew(self, id: int) -> int:
        """Start the time to live anew; returns it in seconds, 0 for an unknown lease."""
        lease = self._leases.get(id)
        if lease is None:
            return 0
        lease.deadline_s = self._clock.monotonic_s() + lease.ttl_s
        return lease.ttl_s

    def attach(self, id: int, key: str) -> None:
        if lease := self._leases.get(id):
            lease.keys.add(key)

    def detach(self, id: int, key: str) -> None:
        if lease := self._leases.get(id):
            lease.keys.discard(key)

    def expired(self) -> list[int]:
        """Ids whose deadline has passed, oldest deadline first."""
        now_s = self._clock.monotonic_s()
        due = [lease for lease in self._leases.values() if lease.deadline_s <= now_s]
        return [lease.id for lease in sorted(due, key=lambda lease: lease.deadline_s)]

    def all(self) -> list[Lease]:
        return list(self._leases.values())

    def __len__(self) -> int:
        return len(self._leases)
