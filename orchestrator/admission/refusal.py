"""How admission says no, in Kubernetes' words."""

from orchestrator.admission.chain import AdmissionRequest
from orchestrator.api.errors import Cause, Forbidden


def forbidden(request: AdmissionRequest, why: str, causes: tuple[Cause, ...] = ()) -> Forbidden:
    """`pods "x" is forbidden: …`."""
    resource = request.resource
    named = f'{resource.qualified} "{request.name}"' if request.name else resource.qualified
    return Forbidden(
        f"{named} is forbidden: {why}",
        group=resource.group,
        kind=resource.plural,
        name=request.name,
        causes=causes,
    )
