"""What `kubectl get` shows: objects as rows of a meta.k8s.io/v1 `Table`, or as metadata only.

Called by the server's handlers of get, list and watch; pure except for the time handed in.
"""

from orchestrator.api.printing.duration import human_duration
from orchestrator.api.printing.table import Include, partial_metadata, partial_metadata_list, table

__all__ = ["Include", "human_duration", "partial_metadata", "partial_metadata_list", "table"]
