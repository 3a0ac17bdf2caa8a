"""What events say about images: the words of a kubelet of v1.36. Pure. Called by the pods' operations."""

from orchestrator.agent.images.pulling import Ready


def pulled(reference: str, ready: Ready) -> str:
    """Of an image that a container can start from."""
    if ready.pulled_s < 0:
        return f'Container image "{reference}" already present on machine and can be accessed by the pod'
    took, whole = duration(ready.pulled_s), duration(ready.pulled_s + ready.waited_s)
    size = f"Image size: {ready.image.size_bytes} bytes."
    return f'Successfully pulled image "{reference}" in {took} ({whole} including waiting). {size}'


def missing_secrets(names: tuple[str, ...]) -> str:
    """Of `imagePullSecrets` that could not be had."""
    return (
        f"Unable to retrieve some image pull secrets ({', '.join(names)}); "
        "attempting to pull the image may not succeed."
    )


def duration(seconds: float) -> str:
    """As Kubernetes prints it, cut to milliseconds: `330ms`, `1.2s`, `1m2.5s`."""
    milli = int(seconds * 1000)
    if milli < 1000:
        return f"{milli}ms" if milli else "0s"
    minutes, rest = divmod(milli, 60_000)
    hours, minutes = divmod(minutes, 60)
    text = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
