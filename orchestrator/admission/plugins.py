"""The plugins that are on by default, in Kubernetes' order. Called by `daemon.py`."""

import random

from orchestrator.admission.certificates import CertificateRequests
from orchestrator.admission.chain import Plugin
from orchestrator.admission.default_tolerations import DefaultTolerationSeconds
from orchestrator.admission.escalation import Holdings, RbacEscalation
from orchestrator.admission.limitranger import LimitRanger
from orchestrator.admission.namespace_lifecycle import NamespaceLifecycle
from orchestrator.admission.node_restriction import NodeRestriction
from orchestrator.admission.node_taints import TaintNodesByCondition
from orchestrator.admission.priority import Priority
from orchestrator.admission.runtime_class import RuntimeClass
from orchestrator.admission.service_account import ServiceAccount
from orchestrator.admission.volumes import (
    ClaimResize,
    DefaultIngressClass,
    DefaultStorageClass,
    Lister,
    StorageProtection,
)
from orchestrator.base.clock import Clock


def default_plugins(
    reader: Lister, holdings: Holdings, clock: Clock, rng: random.Random
) -> tuple[Plugin, ...]:
    """`reader` reads the newest state, such as `orchestrator.registry.storage.Storage`; `holdings` is the
    authorizer."""
    return (
        NamespaceLifecycle(reader),
        LimitRanger(reader),
        ServiceAccount(reader, clock, rng),
        NodeRestriction(),
        TaintNodesByCondition(),
        RbacEscalation(reader, holdings),
        Priority(reader),
        DefaultTolerationSeconds(),
        DefaultStorageClass(reader),
        StorageProtection(),
        ClaimResize(reader),
        RuntimeClass(reader),
        CertificateRequests(holdings),
        DefaultIngressClass(reader),
    )
