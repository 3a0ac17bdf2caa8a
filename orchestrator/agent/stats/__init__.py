"""What the node, its pods and their containers use: collected here, told by the agent's API and to eviction."""
