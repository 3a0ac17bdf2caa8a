import threading

from orchestrator.registry.apart import PARTS_MAX, TEXT_BYTES, Apart, is_large


def test_what_is_large() -> None:
    pod = {"spec": {"containers": [{"name": "c", "env": [{"name": "A", "value": "b"}] * 20}]}}
    assert not is_large(pod)
    assert is_large(pod, weight=PARTS_MAX // 20)
    assert is_large({"a": [{"b": 1}] * PARTS_MAX})
    assert is_large({"data": {"k": "x" * TEXT_BYTES * (PARTS_MAX + 2)}})
    assert not is_large("text") and not is_large(None)


async def test_only_large_work_leaves_the_loop() -> None:
    apart, here = Apart(), threading.get_ident()
    assert await apart.run(False, threading.get_ident) == here
    assert await apart.run(True, threading.get_ident) != here
