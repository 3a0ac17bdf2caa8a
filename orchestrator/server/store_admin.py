"""The operator's way to the store, outside of the resources: `/orchestrator/store…`.

    GET  /orchestrator/store               figures and state
    POST /orchestrator/store/compact       forget history, give disk space back
    POST /orchestrator/store/rotate-key    a new encryption key, everything sealed anew

Authorized like every path that names no resource, so for those with `nonResourceURLs: ["*"]` only, which are
the cluster's admins. Called by `app`; asked for by `orchestrator store`.
"""

import msgspec

from orchestrator.api.errors import MethodNotAllowed
from orchestrator.server.errors import HEADERS, unknown_resource
from orchestrator.server.interfaces import StoreAdmin
from orchestrator.web.answer import Answer

PREFIX = "/orchestrator/"
STATUS = "/orchestrator/store"
COMPACT = "/orchestrator/store/compact"
ROTATE_KEY = "/orchestrator/store/rotate-key"

_encode = msgspec.json.Encoder().encode


async def store_answer(admin: StoreAdmin, verb: str, path: str) -> Answer:
    """The answer to an authorized request. Raises `ApiError`."""
    calls = {
        STATUS: ("get", admin.status),
        COMPACT: ("post", admin.compact),
        ROTATE_KEY: ("post", admin.rotate_key),
    }
    wanted, call = calls.get(path.rstrip("/"), ("", None))
    if call is None:
        raise unknown_resource()
    if verb != wanted:
        raise MethodNotAllowed(f"{path} takes {wanted.upper()} only")
    return Answer(200, _encode(await call()), HEADERS)
