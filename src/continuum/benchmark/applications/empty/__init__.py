"""Pods that do nothing: how long the cluster itself takes to bring each of them up."""

from continuum.benchmark.applications.empty.application import Empty

__all__ = ["Empty"]
