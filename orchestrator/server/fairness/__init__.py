"""API Priority and Fairness: which requests are worked on at once, which wait, which are refused with 429.

defaults ─ match (which FlowSchema) ─ level (seats, queues) ─ fairness (all of it, live) ─ gate (around a request)
"""
