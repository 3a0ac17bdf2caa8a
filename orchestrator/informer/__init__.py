"""Cache, work queue and controller runner. Events only wake; controllers read the cache and decide.

One `Informer` per resource and process, shared by reference; it holds `Item`s (encoded bytes plus projection).
"""
