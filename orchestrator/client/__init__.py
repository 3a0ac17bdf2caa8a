"""The verbs for components, as an identity: local (calls the registry) and HTTPS, one interface."""
