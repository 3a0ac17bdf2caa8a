"""Addresses, links, routes and firewall rules of one host. Knows no Kubernetes objects.

Only here pyroute2 is imported and `nft` is run. Everything created carries the instance in its name.
"""
