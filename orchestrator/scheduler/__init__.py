"""Queue of pending pods, decision over columns of nodes, binding. `rules/` holds the pure filters and scores."""
