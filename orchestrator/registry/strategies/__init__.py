"""One strategy per kind: `built_in` lists them all. Read `base` for what they share.

Called by the daemon, which hands the map to the registry.
"""

import random
from collections.abc import Callable

from orchestrator.api import resources as table
from orchestrator.api.resources import Resource
from orchestrator.base.clock import Clock
from orchestrator.registry.strategies.api_services import APIServiceStrategy
from orchestrator.registry.strategies.autoscaling import HorizontalPodAutoscalerStrategy
from orchestrator.registry.strategies.base import BaseStrategy
from orchestrator.registry.strategies.certificates import CertificateSigningRequestStrategy
from orchestrator.registry.strategies.config_data import ConfigMapStrategy, SecretStrategy
from orchestrator.registry.strategies.cronjobs import CronJobStrategy
from orchestrator.registry.strategies.customresourcedefinitions import CustomResourceDefinitionStrategy
from orchestrator.registry.strategies.daemonsets import DaemonSetStrategy
from orchestrator.registry.strategies.devices import (
    DeviceClassStrategy,
    ResourceClaimStrategy,
    ResourceClaimTemplateStrategy,
    ResourceSliceStrategy,
)
from orchestrator.registry.strategies.disruption import PodDisruptionBudgetStrategy
from orchestrator.registry.strategies.endpoints import EndpointSliceStrategy, EndpointsStrategy
from orchestrator.registry.strategies.events import EventStrategy, NewEventStrategy
from orchestrator.registry.strategies.flow_control import FlowSchemaStrategy, PriorityLevelStrategy
from orchestrator.registry.strategies.ingress import IngressClassStrategy, IngressStrategy
from orchestrator.registry.strategies.jobs import JobStrategy
from orchestrator.registry.strategies.limits import LimitRangeStrategy
from orchestrator.registry.strategies.namespaces import NamespaceStrategy
from orchestrator.registry.strategies.network_policies import (
    IPAddressStrategy,
    NetworkPolicyStrategy,
    ServiceCIDRStrategy,
)
from orchestrator.registry.strategies.nodes import NodeStrategy
from orchestrator.registry.strategies.persistent_volumes import PersistentVolumeStrategy
from orchestrator.registry.strategies.pods import PodStrategy
from orchestrator.registry.strategies.policies import (
    MutatingPolicyStrategy,
    PolicyBindingStrategy,
    ValidatingPolicyStrategy,
)
from orchestrator.registry.strategies.priority_classes import PriorityClassStrategy
from orchestrator.registry.strategies.quotas import ResourceQuotaStrategy
from orchestrator.registry.strategies.rbac import BindingStrategy, RoleStrategy
from orchestrator.registry.strategies.replication import (
    PodTemplateStrategy,
    ReplicationControllerStrategy,
)
from orchestrator.registry.strategies.runtime_classes import RuntimeClassStrategy
from orchestrator.registry.strategies.services import ServiceStrategy
from orchestrator.registry.strategies.small import LeaseStrategy, ServiceAccountStrategy
from orchestrator.registry.strategies.statefulsets import StatefulSetStrategy
from orchestrator.registry.strategies.storage import (
    CSIDriverStrategy,
    CSINodeStrategy,
    CSIStorageCapacityStrategy,
    StorageClassStrategy,
    VolumeAttachmentStrategy,
    VolumeAttributesClassStrategy,
)
from orchestrator.registry.strategies.volume_claims import PersistentVolumeClaimStrategy
from orchestrator.registry.strategies.webhooks import MutatingWebhookStrategy, WebhookStrategy
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
    table.REPLICATIONCONTROLLERS: ReplicationControllerStrategy,
    table.PODTEMPLATES: PodTemplateStrategy,
    table.STATEFULSETS: StatefulSetStrategy,
    table.DAEMONSETS: DaemonSetStrategy,
    table.JOBS: JobStrategy,
    table.CRONJOBS: CronJobStrategy,
    table.HORIZONTALPODAUTOSCALERS: HorizontalPodAutoscalerStrategy,
    table.HORIZONTALPODAUTOSCALERS_V1: HorizontalPodAutoscalerStrategy,
    table.PODDISRUPTIONBUDGETS: PodDisruptionBudgetStrategy,
    table.PRIORITYCLASSES: PriorityClassStrategy,
    table.LIMITRANGES: LimitRangeStrategy,
    table.RESOURCEQUOTAS: ResourceQuotaStrategy,
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
    table.NEW_EVENTS: NewEventStrategy,
    table.RUNTIMECLASSES: RuntimeClassStrategy,
    table.VALIDATINGWEBHOOKCONFIGURATIONS: WebhookStrategy,
    table.MUTATINGWEBHOOKCONFIGURATIONS: MutatingWebhookStrategy,
    table.VALIDATINGADMISSIONPOLICIES: ValidatingPolicyStrategy,
    table.VALIDATINGADMISSIONPOLICYBINDINGS: PolicyBindingStrategy,
    table.MUTATINGADMISSIONPOLICIES: MutatingPolicyStrategy,
    table.MUTATINGADMISSIONPOLICYBINDINGS: PolicyBindingStrategy,
    table.APISERVICES: APIServiceStrategy,
    table.FLOWSCHEMAS: FlowSchemaStrategy,
    table.PRIORITYLEVELCONFIGURATIONS: PriorityLevelStrategy,
    table.DEVICECLASSES: DeviceClassStrategy,
    table.CUSTOMRESOURCEDEFINITIONS: CustomResourceDefinitionStrategy,
    table.RESOURCECLAIMS: ResourceClaimStrategy,
    table.RESOURCECLAIMTEMPLATES: ResourceClaimTemplateStrategy,
    table.RESOURCESLICES: ResourceSliceStrategy,
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
    csr = table.CERTIFICATESIGNINGREQUESTS
    strategies[csr.group, csr.plural] = CertificateSigningRequestStrategy(clock)
    return strategies


def default_strategy(resource: Resource) -> Strategy:
    """The strategy of a kind that has no rules of its own, such as a custom resource."""
    return BaseStrategy(resource)
