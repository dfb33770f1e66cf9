"""Our own services, managers and execution models hold their contracts."""

from __future__ import annotations

from continuum.software.contract import ResourceManager, Service
from continuum.software.managers.kubeedge import KubeEdge
from continuum.software.managers.kubernetes import Kubernetes
from continuum.software.managers.none import NoManager
from continuum.software.services.clock import Clock
from continuum.software.services.mqtt import Mqtt
from continuum.software.services.registry import Registry
from continuum.testing.software import ResourceManagerContract, ServiceContract


class TestClock(ServiceContract):
    def subject(self) -> Service:
        return Clock()


class TestMqtt(ServiceContract):
    def subject(self) -> Service:
        return Mqtt()


class TestRegistry(ServiceContract):
    def subject(self) -> Service:
        return Registry()


class TestNoManager(ResourceManagerContract):
    def subject(self) -> ResourceManager:
        return NoManager()


class TestKubernetes(ResourceManagerContract):
    def subject(self) -> ResourceManager:
        return Kubernetes()


class TestKubeEdge(ResourceManagerContract):
    def subject(self) -> ResourceManager:
        return KubeEdge()
