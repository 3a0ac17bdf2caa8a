"""Container engines behind one interface: sandboxes, containers, images, exec, logs, events.

Knows nothing of Kubernetes objects or of pod networking beyond handing out the sandbox's network namespace.
Called by `agent` only. One contract suite (tests/contract/) runs against every engine.
"""
