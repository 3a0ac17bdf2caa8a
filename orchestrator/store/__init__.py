"""One growing revision over ordered keys, durable before visible: etcd's contract.

`interface` is the contract; `commit` (one writer, batches), `log` (segments), `snapshotter`, `state` (MVCC in
memory), `archive` (old values on disk) and `watch` (fan-out) make the embedded engine; `engine` has the picture.
Called by `registry` and, for reads and watches of raw entries, by `informer` caches in the same process. Knows
keys and bytes; of objects only `api.item.Item`.
"""
