"""Keys and certificates: the CA, server and client certificates, service-account signing key, kubeconfig."""
