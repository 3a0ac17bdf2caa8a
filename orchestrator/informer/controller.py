"""What a controller is, and the runner that drives one with bounded workers.

    class Controller(Protocol):
        name: str                                       # "deployment"
        watches: tuple[Resource, ...]; writes: tuple[Resource, ...]   # the graph of controllers
        def setup(self, informers: Informers, queue: WorkQueue) -> None   # wire handlers that add keys
        async def reconcile(self, key: str) -> float | None   # seconds until it wants to look again, or None

A failing key is retried with back-off (5 ms doubling to 1000 s, as client-go), logged once, counted in metrics;
`Conflict` is retried quietly. One failing key never stops another.
"""
