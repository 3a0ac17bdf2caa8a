"""The one line format of all benchmarks; ARCHITECTURE.md says what the fields mean."""

import json
import time


def row(
    bench: str,
    row: str,
    value: float,
    unit: str,
    better: str,
    target: float | None = None,
    of: str = "value",
    peer: str | None = None,
    peer_value: float | None = None,
    recorded_peer: float | None = None,
) -> None:
    """Print one row. `better` is `higher` or `lower`; `of` says whether `target` holds `value` or `ratio`.

    A ratio is taken to the peer of this run, or else to the recorded figure.
    """
    base = peer_value if peer_value is not None else recorded_peer
    ratio = value / base if base else None
    judged = value if of == "value" else ratio
    ok = None
    if target is not None and judged is not None:
        ok = judged >= target if better == "higher" else judged <= target
    line = {
        "bench": bench,
        "row": row,
        "value": _short(value),
        "unit": unit,
        "better": better,
        "peer": peer,
        "peer_value": _short(peer_value),
        "recorded_peer": recorded_peer,
        "ratio": _short(ratio),
        "target": target,
        "of": of,
        "ok": ok,
    }
    print(json.dumps(line), flush=True)


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def percentile(values: list[float], share: float) -> float:
    """The value that `share` (0 to 1) of `values` do not exceed."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def paused_share() -> float:
    """Share of its time that one busy process loses to pauses of 5 ms and more, to read the other figures by.

    0 on a machine of one's own. Where it is not, medians of latencies and the fastest of several runs say more
    than rates and tails.
    """
    began_s = last_s = time.perf_counter()
    lost_s = 0.0
    while last_s - began_s < 4.0:
        now_s = time.perf_counter()
        if now_s - last_s > 0.005:
            lost_s += now_s - last_s
        last_s = now_s
    return lost_s / (last_s - began_s)
