"""Root of every error that this project raises on purpose.

API errors (one class per Kubernetes `Status` reason) grow from here in `orchestrator.api.errors`.
"""


class OrchestratorError(Exception):
    """An error with a cause that we know. Anything else that escapes is a bug."""


class StartupError(OrchestratorError):
    """The daemon can't start. Says why, and what the operator can do; raised before anything is changed.

    `cause` and `fix` are single sentences for a terminal.
    """

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__(f"{cause} {fix}")
        self.cause = cause
        self.fix = fix
