"""Scheduler and controllers: imported and started once the API answers, so that it need not wait for them."""

import random

from orchestrator.api.access import component
from orchestrator.api.resources import ResourceTable
from orchestrator.assembly.clients import Clients, recorder_of
from orchestrator.base.clock import Clock
from orchestrator.base.tasks import Supervisor
from orchestrator.controllers.all import build
from orchestrator.informer.cache import Informers
from orchestrator.informer.controller import Runner
from orchestrator.scheduler.scheduler import Scheduler


class Deciders:
    """Owner of the scheduler's and the controllers' tasks, each under its own identity and supervisor."""

    def __init__(self, clients: Clients, informers: Informers, clock: Clock, rng: random.Random) -> None:
        self._clients = clients
        self._informers = informers
        self._clock = clock
        self._rng = rng
        self.supervisors = [Supervisor("scheduler", clock), Supervisor("controllers", clock)]

    def start(self, table: ResourceTable, ca_pem: str, pod_cidr: str) -> None:
        """Decide from now on; each waits for the informers that it reads."""
        scheduling, controlling = self.supervisors
        client = self._clients.as_identity(component("kube-scheduler"))
        recorder = recorder_of(client, "kube-scheduler", "", scheduling, self._clock)
        scheduler = Scheduler(client, self._informers, self._clock, recorder, self._rng)
        scheduling.serve("loop", scheduler.run)
        client = self._clients.as_identity(component("kube-controller-manager"))
        recorder = recorder_of(client, "kube-controller-manager", "", controlling, self._clock)
        for controller in build(client, self._clock, recorder, table, ca_pem=ca_pem, pod_cidr=pod_cidr):
            Runner(controller, self._informers, controlling, self._clock).start()

    async def stop(self) -> None:
        """Stop deciding."""
        for supervisor in self.supervisors:
            await supervisor.stop()
