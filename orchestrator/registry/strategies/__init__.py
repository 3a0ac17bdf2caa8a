"""One strategy per kind: `built_in` lists them all. Read `base` for what they share.

Called by the daemon, which hands the map to the registry.
"""

import random
from collections.abc import Callable

from orchestrator.api import resources as table
from orchestrator.api.resources import Resource
from orchestrator.base.clock import Clock
from orchestrator.registry.strategies.base import BaseStrategy
from orchestrator.registry.strategies.config_data import ConfigMapStrategy, SecretStrategy
from orchestrator.registry.strategies.endpoints import EndpointSliceStrategy, EndpointsStrategy
from orchestrator.registry.strategies.ingress import IngressClassStrategy, IngressStrategy
from orchestrator.registry.strategies.namespaces import NamespaceStrategy
from orchestrator.registry.strategies.network_policies import (
    IPAddressStrategy,
    NetworkPolicyStrategy,
    ServiceCIDRStrategy,
)
from orchestrator.registry.strategies.nodes import NodeStrategy
from orchestrator.registry.strategies.persistent_volumes import PersistentVolumeStrategy
from orchestrator.registry.strategies.pods import PodStrategy
from orchestrator.registry.strategies.rbac import BindingStrategy, RoleStrategy
from orchestrator.registry.strategies.services import ServiceStrategy
from orchestrator.registry.strategies.small import EventStrategy, LeaseStrategy, ServiceAccountStrategy
from orchestrator.registry.strategies.storage import (
    CSIDriverStrategy,
    CSINodeStrategy,
    CSIStorageCapacityStrategy,
    StorageClassStrategy,
    VolumeAttachmentStrategy,
    VolumeAttributesClassStrategy,
)
from orchestrator.registry.strategies.volume_claims import PersistentVolumeClaimStrategy
from orchestrator.registry.strategies.workloads import (
    ControllerRevisionStrategy,
    DeploymentStrategy,
    ReplicaSetStrategy,
)
from orchestrator.registry.strategy import Strategy

__all__ = ["BaseStrategy", "built_in", "default_strategy"]

_BY_RESOURCE: dict[Resource, Callable[[Resource], Strategy]] = {
    table.PODS: PodStrategy,
    table.NAMESPACES: NamespaceStrategy,
    table.NODES: NodeStrategy,
    table.ENDPOINTS: EndpointsStrategy,
    table.ENDPOINTSLICES: EndpointSliceStrategy,
    table.CONFIGMAPS: ConfigMapStrategy,
    table.SECRETS: SecretStrategy,
    table.SERVICEACCOUNTS: ServiceAccountStrategy,
    table.EVENTS: EventStrategy,
    table.LEASES: LeaseStrategy,
    table.DEPLOYMENTS: DeploymentStrategy,
    table.REPLICASETS: ReplicaSetStrategy,
    table.CONTROLLERREVISIONS: ControllerRevisionStrategy,
    table.ROLES: RoleStrategy,
    table.CLUSTERROLES: RoleStrategy,
    table.ROLEBINDINGS: BindingStrategy,
    table.CLUSTERROLEBINDINGS: BindingStrategy,
    table.PERSISTENTVOLUMECLAIMS: PersistentVolumeClaimStrategy,
    table.STORAGECLASSES: StorageClassStrategy,
    table.VOLUMEATTACHMENTS: VolumeAttachmentStrategy,
    table.VOLUMEATTRIBUTESCLASSES: VolumeAttributesClassStrategy,
    table.CSIDRIVERS: CSIDriverStrategy,
    table.CSINODES: CSINodeStrategy,
    table.CSISTORAGECAPACITIES: CSIStorageCapacityStrategy,
    table.INGRESSES: IngressStrategy,
    table.INGRESSCLASSES: IngressClassStrategy,
    table.NETWORKPOLICIES: NetworkPolicyStrategy,
    table.IPADDRESSES: IPAddressStrategy,
    table.SERVICECIDRS: ServiceCIDRStrategy,
}


def built_in(
    service_cidr: str, node_ports: range, clock: Clock, rng: random.Random
) -> dict[tuple[str, str], Strategy]:
    """A strategy for every stored built-in resource, by (group, plural).

    `service_cidr` and `node_ports` are what Services get addresses and ports from; `clock` stamps the times
    that a kind sets itself. Raises `ValueError` for a CIDR that is none.
    """
    strategies = {
        (row.group, row.plural): _BY_RESOURCE.get(row, default_strategy)(row)
        for row in table.BUILT_IN
        if row.stored
    }
    strategies["", "services"] = ServiceStrategy(service_cidr, node_ports, rng)
    strategies["", "persistentvolumes"] = PersistentVolumeStrategy(clock)
    return strategies


def default_strategy(resource: Resource) -> Strategy:
    """The strategy of a kind that has no rules of its own, such as a custom resource."""
    return BaseStrategy(resource)
