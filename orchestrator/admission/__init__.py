"""The admission chain and its plugins. Run inside the registry's read-modify-write, on the merged object."""
