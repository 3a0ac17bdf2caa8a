import random
import tracemalloc

from orchestrator.base.backoff import Backoff


def test_delays_double_up_to_the_longest_and_start_anew_after_a_reset():
    backoff = Backoff(1.0, 5.0)
    assert [backoff.next_s("a") for _ in range(4)] == [1.0, 2.0, 4.0, 5.0]
    assert (backoff.next_s("b"), backoff.failures("a")) == (1.0, 4)
    backoff.reset("a")
    assert backoff.next_s("a") == 1.0


def test_jitter_spreads_a_delay_by_at_most_its_share():
    backoff = Backoff(1.0, 1.0, jitter=0.1)
    delays = [backoff.next_s() for _ in range(100)]
    assert min(delays) >= 1.0 and max(delays) <= 1.1 and len(set(delays)) > 1
    one, other = (Backoff(1.0, 1.0, 0.1, random.Random(7)).next_s() for _ in range(2))
    assert one == other


def test_what_never_fails_costs_little_memory():
    tracemalloc.start()
    try:
        made = [Backoff(0.1, 30.0, jitter=0.1) for _ in range(100)]
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / len(made) < 1000
