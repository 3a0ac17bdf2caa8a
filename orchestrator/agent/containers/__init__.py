"""A container of a pod as the engine shall run it: environment, files, mounts, resources, security."""
