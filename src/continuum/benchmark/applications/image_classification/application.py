"""How the workers and the endpoints of `image_classification` start, and what their samples say."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from importlib import resources
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from continuum.benchmark.applications.image_classification import build
from continuum.benchmark.contract import (
    RUN_FOLDER,
    Endpoint,
    Load,
    Locating,
    Misfit,
    Transport,
    Worker,
)
from continuum.experiment.document import dotted
from continuum.images.recipe import PYTHON_FOLDER, RUNTIME_FOLDER, InstallStep, PythonPackages
from continuum.images.runtime import runtime_tree
from continuum.infrastructure.providers.contract import PluginSettings
from continuum.software.contract import ProcessSpec
from continuum.software.serverless import openfaas

if TYPE_CHECKING:
    import pyarrow as pa

    from continuum.experiment.model import Experiment
    from continuum.images.containers import ContainerImage

MQTT_PORT = 1883
START_TIMEOUT = 600.0
"""Seconds for which an endpoint that could start waits to be told to."""

_MQTT_HEADER_BYTES = 6
"""Kind, length in three bytes, length of the topic in two."""

_PHOTO_BYTES = 68_000.0
"""Bytes of a photo on average."""

_HTTP_REQUEST_BYTES = 170
_HTTP_ANSWER_BYTES = 180
"""The lines before a body, give or take what a gateway adds."""

_BASE_BYTES = 96 * 2**20
_MODEL_BYTES = 48 * 2**20
"""A worker's memory for what takes requests, and for each model with what it computes in."""

_TRIAL = "coffee-1.jpg"

_REQUIREMENTS = (
    "numpy>=2.0,<3",
    "onnxruntime>=1.20,<2",
    "paho-mqtt>=2.1,<3",
    "pillow>=11",
    "prometheus-client>=0.21,<1",
)


class ImageClassificationSettings(PluginSettings):
    """The table `[benchmark.image_classification]`."""

    threads: int = Field(
        default=1, ge=1, le=64, description="Threads that compute one photo on the worker."
    )
    processes: int | None = Field(
        default=None,
        ge=1,
        le=256,
        description="Photos that a worker classifies at a time, by a model each; absent: as many as "
        "it has cores, rounded up, as far as its memory allows.",
    )
    passes: int = Field(
        default=1,
        ge=1,
        le=10_000,
        description="How often each photo is computed: the load of slower hardware.",
    )


@cache
def golden() -> Mapping[str, str]:
    """The label of each photo whose answer is beyond doubt, by the photo's file name."""
    text = resources.files(__package__).joinpath("golden.json").read_text()
    labels: dict[str, str] = json.loads(text)
    return labels


def _too_few(tier: str, workers: int, reason: str) -> Misfit:
    path = ("tiers", tier, "machines")
    return Misfit(reason, path, f"{dotted(path)} = {workers} or more")


class ImageClassification(Locating):
    """EfficientNet-Lite0 on 60 photos. Requests to workers elsewhere cross by MQTT, to functions by HTTP."""

    name: ClassVar[str] = "image_classification"
    settings_type: ClassVar[type[PluginSettings]] = ImageClassificationSettings
    beside_worker: ClassVar[bool] = True
    port: int = MQTT_PORT

    def misfit(self, experiment: Experiment) -> Misfit | None:
        """Why the experiment does not fit; too few endpoints are mended by more of them."""
        benchmark = experiment.benchmark
        assert benchmark is not None
        tier = benchmark.endpoints
        endpoints = experiment.tiers[tier].machines if tier in experiment.tiers else 0
        workers = len(experiment.worker_machines) * benchmark.workers_per_machine
        if endpoints == 0:
            reason = f'it needs at least one machine in the tier "{tier}" to send photos'
            if tier not in experiment.tiers or workers == 0:
                return Misfit(reason)
            return _too_few(tier, workers, reason)
        if experiment.worker_tier == tier:
            return None
        if workers == 0:
            return Misfit(f'the tier "{experiment.worker_tier}" has no machine for workers')
        if endpoints < workers:
            reason = f"{endpoints} endpoints cannot use {workers} workers: each endpoint has one"
            return _too_few(tier, workers, reason)
        return None

    def install(self) -> tuple[InstallStep, ...]:
        """Model, photos, our programs, and the Python packages that they need."""
        return (PythonPackages(_REQUIREMENTS), runtime_tree(), build.tree())

    def services(self, experiment: Experiment) -> tuple[str, ...]:
        """A broker on each worker machine, unless endpoints answer themselves, or call functions."""
        benchmark = experiment.benchmark
        assert benchmark is not None
        if experiment.workers_as_functions or experiment.worker_tier == benchmark.endpoints:
            return ()
        return ("mqtt",)

    def function_image(self) -> ContainerImage:
        """The same programs as in a machine; what starts serves HTTP."""
        from continuum.images import containers, oci  # noqa: PLC0415  only where it is needed
        from continuum.images.recipe import Recipe  # noqa: PLC0415

        return containers.of_recipe(
            "image-classification-function",
            Recipe.collect(self.install()),
            oci.Config(
                command=("python3", "-m", "continuum_runtime.serve_function"),
                environment={"CONTINUUM_DATA": build.FOLDER, "OPENBLAS_NUM_THREADS": "1"},
            ),
        )

    def worker(self, worker: Worker, endpoints: tuple[Endpoint, ...]) -> ProcessSpec:
        """Connects to the broker on its own machine; a function waits to be called."""
        if worker.gateway:
            return self._function(worker)
        folder = f"{RUN_FOLDER}/{worker.name}"
        return self._process(
            "worker",
            ProcessSpec(
                worker.name,
                worker.machine,
                (),
                cpu=worker.cpu,
                memory=worker.memory,
                metrics_port=worker.metrics_port,
            ),
            folder,
            {
                "folder": folder,
                "name": worker.name,
                "host": worker.address,
                "port": self.port,
                "request_topic": _request_topic(worker),
                "answer_topics": {
                    str(endpoint.number): _answer_topic(endpoint) for endpoint in endpoints
                },
                "data": build.FOLDER,
                **self._computing(worker),
                **_telling(worker.metrics_port),
            },
        )

    def _function(self, worker: Worker) -> ProcessSpec:
        """What its image starts needs no file."""
        return ProcessSpec(
            worker.name,
            worker.machine,
            (),
            environment={
                **{
                    f"CONTINUUM_{name.upper()}": str(value)
                    for name, value in self._computing(worker).items()
                },
                "OMP_NUM_THREADS": str(self._own.threads),
            },
            cpu=worker.cpu,
            memory=worker.memory,
            trial=f"{build.FOLDER}/photos/{_TRIAL}",
        )

    def endpoint(self, endpoint: Endpoint, load: Load) -> ProcessSpec:
        """Connects to its worker's broker or gateway, or classifies by itself."""
        warmup, requests = load.requests
        worker = endpoint.worker
        return self._process(
            "endpoint",
            ProcessSpec(
                f"{endpoint.name}-{load.repetition}",
                endpoint.machine,
                (),
                cpu=endpoint.cpu,
                memory=endpoint.memory,
                metrics_port=endpoint.metrics_port,
            ),
            load.folder,
            {
                "folder": load.folder,
                "name": endpoint.name,
                "number": endpoint.number,
                "frequency": load.frequency,
                "warmup": warmup,
                "requests": requests,
                "seed": load.seed,
                "answer_timeout": load.answer_timeout,
                "start_timeout": START_TIMEOUT,
                "arrivals": load.arrivals_file,
                "photos": f"{build.FOLDER}/photos",
                "broker": self._broker(endpoint, worker),
                "data": build.FOLDER,
                **self._computing(endpoint),
                **_gateway(worker),
                **_telling(endpoint.metrics_port),
            },
            load.files,
        )

    def _broker(self, endpoint: Endpoint, worker: Worker | None) -> dict[str, Any] | None:
        if worker is None or worker.gateway:
            return None
        return {
            "host": worker.address,
            "port": self.port,
            "request_topic": _request_topic(worker),
            "answer_topic": _answer_topic(endpoint),
        }

    def columns(self) -> pa.Schema:
        """Photo, its label in the golden table, whether the answer agrees, what went wrong."""
        import pyarrow as pa  # noqa: PLC0415  slow to import; reading an experiment needs none

        return pa.schema(
            [
                pa.field("input", pa.string()),
                pa.field("expected", pa.string()),
                pa.field("agrees", pa.bool_()),
                pa.field("error", pa.string()),
            ]
        )

    def complete(self, sample: dict[str, Any]) -> Mapping[str, Any]:
        """The golden table's word on the photo; null where there is none, or no result."""
        photo, result = sample.get("input"), sample.get("result")
        expected = golden().get(photo) if isinstance(photo, str) else None
        return {
            "input": photo,
            "expected": expected,
            "agrees": None if expected is None or result is None else result == expected,
            "error": sample.get("error"),
        }

    def agreement(self, sample: Mapping[str, Any]) -> bool | None:
        """Whether the result is the golden table's."""
        agrees = sample.get("agrees")
        return agrees if isinstance(agrees, bool) else None

    def expected_requests(self, load: Load) -> int | None:
        """All that the schedule holds."""
        return sum(load.requests)

    def servers(self, worker: Worker | Endpoint) -> int:
        """Photos at a time: the settings', else one for each core, rounded up."""
        if self._own.processes is not None:
            return self._own.processes
        cores = math.ceil(round(worker.cpu, 6))
        return max(1, min(cores, (worker.memory - _BASE_BYTES) // _MODEL_BYTES))

    def request_bytes(self) -> float:
        """The average size of a photo."""
        return _PHOTO_BYTES

    def transport(self) -> Transport | None:
        """MQTT 3.1.1, QoS 0; topics differ by a digit or two, which is of no account."""
        topic = len("continuum/worker-1/requests")
        return Transport(protocol_bytes=_MQTT_HEADER_BYTES + topic)

    def function_transport(self) -> Transport | None:
        """HTTP/1.1 over a connection that is kept."""
        return Transport(_HTTP_REQUEST_BYTES, _HTTP_ANSWER_BYTES)

    @property
    def _own(self) -> ImageClassificationSettings:
        assert isinstance(self.settings, ImageClassificationSettings)
        return self.settings

    def _computing(self, worker: Worker | Endpoint) -> dict[str, int]:
        """The settings for whoever classifies."""
        return {
            "threads": self._own.threads,
            "processes": self.servers(worker),
            "passes": self._own.passes,
        }

    def _process(
        self,
        program: str,
        process: ProcessSpec,
        folder: str,
        config: Mapping[str, Any],
        files: Mapping[str, bytes] = MappingProxyType({}),
    ) -> ProcessSpec:
        path = f"{folder}/config.json"
        return ProcessSpec(
            name=process.name,
            machine=process.machine,
            arguments=("python3", "-m", f"continuum_runtime.{program}", path),
            environment={
                "PYTHONPATH": f"{RUNTIME_FOLDER}:{PYTHON_FOLDER}",
                "OMP_NUM_THREADS": str(self._own.threads),
                "OPENBLAS_NUM_THREADS": "1",
            },
            files={**files, path: json.dumps(config, indent=2).encode() + b"\n"},
            cpu=process.cpu,
            memory=process.memory,
            ready_file=f"{folder}/ready",
            metrics_port=process.metrics_port,
        )


def _gateway(worker: Worker | None) -> dict[str, Any]:
    if worker is None or not worker.gateway:
        return {}
    path = openfaas.function_path(worker.name)
    return {"gateway": {"host": worker.gateway, "port": openfaas.PORT, "path": path}}


def _telling(port: int | None) -> dict[str, int]:
    """What a process is told about figures of itself; nothing where nobody collects them."""
    return {} if port is None else {"metrics_port": port}


def _request_topic(worker: Worker) -> str:
    return f"continuum/{worker.name}/requests"


def _answer_topic(endpoint: Endpoint) -> str:
    return f"continuum/{endpoint.name}/answers"
