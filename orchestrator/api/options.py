"""Options of the verbs, parsed from query strings or given by components. Source: meta/v1 `*Options`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ListOptions:
    """Options of list. `resource_version` is the client's string, empty when absent."""

    label_selector: str = ""
    field_selector: str = ""
    limit: int = 0
    continue_token: str = ""
    resource_version: str = ""
    resource_version_match: str = ""


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """Options of watch. `timeout_s` of 0 means the server's default."""

    label_selector: str = ""
    field_selector: str = ""
    resource_version: str = ""
    allow_bookmarks: bool = False
    send_initial_events: bool | None = None
    """Whether the objects that exist come first; None does that for a watch from no revision or "0"."""
    timeout_s: float = 0.0


@dataclass(frozen=True, slots=True)
class WriteOptions:
    """Options of create, update and patch. `field_validation` is `Ignore`, `Warn` or `Strict`."""

    dry_run: bool = False
    field_manager: str = ""
    field_validation: str = "Warn"
    force: bool = False
    duplicate_fields: tuple[str, ...] = ()
    """Paths of fields that stood twice in the body; warned of or refused like unknown ones."""
    repeats: tuple[str, ...] = ()
    """The same for a configuration to apply, in the words of Kubernetes' YAML library."""


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """Options of delete. `grace_period_s` of None means the object's own default."""

    grace_period_s: int | None = None
    propagation_policy: str = ""
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False
    orphan_dependents: bool | None = None
