"""Service rules (`proxy`), cluster DNS (`dns`), and the `dataplane` below them.

`proxy` and `dns` watch Services, EndpointSlices (and Nodes) through informers and decide purely; `dataplane` knows
addresses, links, routes and rules, no objects.
"""
