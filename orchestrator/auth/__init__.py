"""Authentication (client certificates, service-account tokens) and authorization (RBAC, node rules)."""
