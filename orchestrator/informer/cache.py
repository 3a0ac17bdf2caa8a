"""Informer: a list-and-watch mirror of one resource with indexes. Owner of the cache: its own task.

Contract (implementation follows):

    informers = Informers(client, supervisor)           # one per process
    pods = informers.of(PODS)                           # shared; starts with informers.start()
    pods.add_index("node", lambda item: [...])          # before start
    pods.on_change(lambda old, new: ...)                # Item | None each; called after the cache changed
    await informers.synced()                            # every informer has its first list
    pods.get("namespace/name")  -> Item | None          # cluster-scoped: "name"
    pods.list(namespace=None)   -> list[Item]
    pods.by_index("node", "n1") -> list[Item]
    pods.revision               -> int
"""
