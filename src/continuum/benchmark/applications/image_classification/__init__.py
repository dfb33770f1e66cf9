"""Photos classified by a neural network, on the endpoint itself or on a worker across a broker."""

from continuum.benchmark.applications.image_classification.application import ImageClassification

__all__ = ["ImageClassification"]
