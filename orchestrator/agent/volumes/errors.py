"""Why a volume can't be mounted, in the words of a kubelet's events."""

from orchestrator.agent.containers.env import ConfigError


class VolumeError(ConfigError):
    """A volume can't be set up (yet): its pod stays in creation. The message is that of the event `reason`."""

    def __init__(self, message: str, reason: str = "FailedMount", *, tried: bool = True) -> None:
        """`tried` where something was done that is done less and less often; a claim is only looked at."""
        super().__init__(message)
        self.reason = reason
        self.tried = tried

    @classmethod
    def mount(cls, volume: str, why: object) -> "VolumeError":
        """Mounting a file system, or writing the files of one."""
        return cls(f'MountVolume.SetUp failed for volume "{volume}" : {why}')

    @classmethod
    def block(cls, volume: str, why: object) -> "VolumeError":
        """Finding a block device."""
        return cls(f'MapVolume.MapPodDevice failed for volume "{volume}" : {why}', "FailedMapVolume")

    @classmethod
    def unready(cls, volume: str, why: object) -> "VolumeError":
        """Before it comes to mounting: the claim is not there, or not bound."""
        named = f"unmounted volumes=[{volume}], unattached volumes=[], failed to process volumes=[{volume}]"
        return cls(f"Unable to attach or mount volumes: {named}: {why}", tried=False)


class SubPathError(ConfigError):
    """A container's mount of a part of a volume can't be made: the container waits with CreateContainerConfigError."""
