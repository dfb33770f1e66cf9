"""From a request to its answer: the same for a worker behind a broker, and for a function."""

from __future__ import annotations

from collections.abc import Callable

from continuum_runtime import message as layout
from continuum_runtime.classifier import CannotClassify, Classifier

QUEUE_LIMIT = 1000
"""Requests that may wait; one more is answered with an error, so that memory has an end."""


def answer(
    classifier: Classifier, request: layout.Request, received_ns: int, now: Callable[[], int]
) -> layout.Answer:
    """Classify one photo; one that cannot be decoded gets an answer that says so."""
    started_ns = now()
    status, label, probability = layout.OK, -1, 0.0
    try:
        label, probability = classifier.classify(request.content)
        text = classifier.labels[label]
    except CannotClassify as error:
        status, text = layout.ERROR, str(error)
    return layout.Answer(
        endpoint=request.endpoint,
        session=request.session,
        sequence=request.sequence,
        received_ns=received_ns,
        started_ns=started_ns,
        finished_ns=now(),
        status=status,
        label=label,
        probability=probability,
        text=text,
    )


def refusal(request: layout.Request, received_ns: int, why: str) -> layout.Answer:
    """The answer to a request that is not processed."""
    return layout.Answer(
        endpoint=request.endpoint,
        session=request.session,
        sequence=request.sequence,
        received_ns=received_ns,
        started_ns=received_ns,
        finished_ns=received_ns,
        status=layout.ERROR,
        text=why,
    )
