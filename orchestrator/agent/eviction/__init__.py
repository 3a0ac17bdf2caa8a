"""Keeps the node alive when memory, disk, inodes or process ids run out: reclaims, then evicts pods."""
