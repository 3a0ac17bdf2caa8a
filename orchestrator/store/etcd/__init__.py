"""The distributed engine: `store.interface.Store` on a real etcd, v3.4 and newer. Opened and closed by `daemon`.

writers ─ api (gRPC) ─ etcd ─ feed (one watch) ─ cache ─┬─ range, get   after a check of etcd's revision
                                                        └─ watch
"""
