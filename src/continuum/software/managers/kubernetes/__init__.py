"""Kubernetes by kubeadm: one control plane, the other machines as workers."""

from continuum.software.managers.kubernetes.manager import Kubernetes

__all__ = ["Kubernetes"]
