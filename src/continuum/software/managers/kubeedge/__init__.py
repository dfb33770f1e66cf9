"""KubeEdge: Kubernetes in the cloud, and machines at the edge that do without it for a while."""

from continuum.software.managers.kubeedge.manager import KubeEdge

__all__ = ["KubeEdge"]
