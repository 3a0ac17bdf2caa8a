"""Custom kinds: what a CustomResourceDefinition says about its objects, and what follows from that. Pure.

`kinds` gathers it per version; the registry's strategies, schemas and the printing of tables use it.
"""
