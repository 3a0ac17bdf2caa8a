"""The explicit list of controllers, and their graph: who watches and writes what. Called by the daemon and cli."""

from collections.abc import Iterable

from orchestrator.api.resources import ResourceTable
from orchestrator.base.clock import Clock
from orchestrator.client.events import EventRecorder
from orchestrator.client.interface import Client
from orchestrator.controllers.accounttokens import AccountTokenController, Issue
from orchestrator.controllers.apiservice import ApiServiceController
from orchestrator.controllers.attachdetach import AttachDetachController
from orchestrator.controllers.certificateapproving import CertificateApprovingController
from orchestrator.controllers.certificatecleaning import CertificateCleaningController
from orchestrator.controllers.certificatesigning import CertificateSigningController, Sign
from orchestrator.controllers.clusterroleaggregation import ClusterRoleAggregationController
from orchestrator.controllers.cronjob import CronJobController
from orchestrator.controllers.customresourcedefinition import CustomResourceDefinitionController
from orchestrator.controllers.daemonset import DaemonSetController
from orchestrator.controllers.deployment import DeploymentController
from orchestrator.controllers.disruption import DisruptionController
from orchestrator.controllers.endpoints import EndpointsController
from orchestrator.controllers.endpointslice import EndpointSliceController
from orchestrator.controllers.endpointslicemirroring import EndpointSliceMirroringController
from orchestrator.controllers.ephemeralvolume import EphemeralVolumeController
from orchestrator.controllers.garbagecollector import GarbageCollector
from orchestrator.controllers.job import JobController
from orchestrator.controllers.localpath import LocalPathProvisioner
from orchestrator.controllers.namespace import NamespaceController
from orchestrator.controllers.nodeipam import NodeIpamController
from orchestrator.controllers.nodelifecycle import NodeLifecycleController
from orchestrator.controllers.persistentvolume import PersistentVolumeController
from orchestrator.controllers.podgc import PodGarbageCollector
from orchestrator.controllers.replicaset import ReplicaSetController
from orchestrator.controllers.replicationcontroller import ReplicationControllerController
from orchestrator.controllers.resourcequota import ResourceQuotaController
from orchestrator.controllers.rootca import RootCaPublisher
from orchestrator.controllers.serviceaccount import ServiceAccountController
from orchestrator.controllers.serviceaddresses import ServiceAddressController
from orchestrator.controllers.servicecidr import ServiceCIDRController
from orchestrator.controllers.statefulset import StatefulSetController
from orchestrator.controllers.storageprotection import StorageProtectionController
from orchestrator.controllers.tainteviction import TaintEvictionController
from orchestrator.controllers.ttlafterfinished import TtlAfterFinishedController
from orchestrator.controllers.volumebinder import VolumeBinder
from orchestrator.controllers.volumeexpand import VolumeExpander
from orchestrator.informer.controller import Controller


def build(
    client: Client, clock: Clock, recorder: EventRecorder, table: ResourceTable, *,
    ca_pem: str, pod_cidr: str, sign: Sign, issue: Issue,
) -> list[Controller]:  # fmt: skip
    """Every controller, in the order of the flow: definitions, accounts, nodes, workloads, endpoints, clean-up.

    `ca_pem` is what pods shall trust; `pod_cidr` is divided among nodes; `sign` makes certificates with the CA's key,
    `issue` makes tokens of accounts.
    """
    return [
        CustomResourceDefinitionController(client, clock, recorder, table),
        ApiServiceController(client, clock, recorder, table),
        ClusterRoleAggregationController(client, clock, recorder),
        CertificateApprovingController(client, clock, recorder),
        CertificateSigningController(client, clock, recorder, sign),
        CertificateCleaningController(client, clock, recorder),
        ServiceAccountController(client, clock, recorder),
        AccountTokenController(client, clock, recorder, ca_pem, issue),
        RootCaPublisher(client, clock, recorder, ca_pem),
        NodeIpamController(client, clock, recorder, pod_cidr),
        NodeLifecycleController(client, clock, recorder),
        TaintEvictionController(client, clock, recorder),
        DeploymentController(client, clock, recorder),
        ReplicaSetController(client, clock, recorder),
        StatefulSetController(client, clock, recorder),
        DaemonSetController(client, clock, recorder),
        ReplicationControllerController(client, clock, recorder),
        JobController(client, clock, recorder),
        CronJobController(client, clock, recorder),
        TtlAfterFinishedController(client, clock, recorder),
        DisruptionController(client, clock, recorder, table),
        EphemeralVolumeController(client, clock, recorder),
        VolumeBinder(client, clock, recorder),
        LocalPathProvisioner(client, clock, recorder),
        PersistentVolumeController(client, clock, recorder),
        VolumeExpander(client, clock, recorder),
        AttachDetachController(client, clock, recorder),
        ServiceAddressController(client, clock, recorder),
        ServiceCIDRController(client, clock, recorder),
        EndpointSliceController(client, clock, recorder),
        EndpointsController(client, clock, recorder),
        EndpointSliceMirroringController(client, clock, recorder),
        ResourceQuotaController(client, clock, recorder, table),
        NamespaceController(client, clock, recorder, table),
        GarbageCollector(client, clock, recorder, table),
        PodGarbageCollector(client, clock, recorder),
        StorageProtectionController(client, clock, recorder),
    ]


def graph(controllers: Iterable[Controller]) -> str:
    """One line per controller: `watched, … → name → written, …`, aligned; more than six resources are counted."""
    rows = [(_names(c.watches), c.name, _names(c.writes)) for c in controllers]
    widths = [max((len(row[column]) for row in rows), default=0) for column in (0, 1)]
    return "\n".join(f"{w:<{widths[0]}} → {name:<{widths[1]}} → {out}" for w, name, out in rows)


def _names(resources: tuple[object, ...]) -> str:
    names = [getattr(resource, "plural", str(resource)) for resource in resources]
    return ", ".join(names) if len(names) <= 6 else f"{len(names)} resources"
