"""One growing revision over ordered keys, durable before visible: etcd's contract.

`interface` is the contract; `log` (segments, CRC, group commit), `state` (MVCC in memory) and `watch`
(fan-out) make the embedded engine. Called by `registry` and, for reads and watches of raw entries, by
`informer` caches in the same process. Knows keys and bytes; of objects only `api.item.Item`.
"""
