"""One protobuf codec over compact field tables of our own, for Kubernetes bodies (later containerd, etcd …)."""
