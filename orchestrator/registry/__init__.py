"""The verbs. Every read and write of an object, HTTP or local, goes through `Registry` here.

read-modify-write: read → merge (patch) → strategy defaults → admission → validation → store transaction with
the revision that was read; a conflict starts over where the client allows it. One strategy per kind.
"""
