"""Reader of Continuum 1.x `.cfg` files; see `docs/legacy-cfg.md`.

What such a file says is put into the words of a TOML file: same keys, quantities with units. So it
goes through the same rules, takes the same overrides, and can be written out as TOML.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from continuum.errors import InvalidExperiment, Problem
from continuum.experiment.check import nearest
from continuum.experiment.document import Document, KeyPath, Reason, Source, shown

TIERS = ("cloud", "edge", "endpoint")
PAIRS = {
    "cloud": ("cloud", "cloud"),
    "edge": ("edge", "edge"),
    "cloud_edge": ("cloud", "edge"),
    "cloud_endpoint": ("cloud", "endpoint"),
    "edge_endpoint": ("edge", "endpoint"),
}
"""Links, as options name them: from tier to tier, both ways."""

DEFAULT = Source("default of Continuum 1.x")

# -- INI -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One option as written; the name in lower case."""

    section: str
    name: str
    value: str
    line: int


@dataclass
class Ini:
    """The sections of a file with their lines, and the options in order."""

    sections: dict[str, int] = field(default_factory=dict)
    entries: list[Entry] = field(default_factory=list)
    problems: list[tuple[int, str]] = field(default_factory=list)


_SECTION = re.compile(r"\[(.+)\]")
_OPTION = re.compile(r"(.*?)\s*[=:]\s*(.*)$")


def scan(text: str) -> Ini:
    """INI as Python's `configparser` reads it by default, but with lines, and to the end.

    Comments are whole lines; a value goes on in lines that are indented more than its option.
    """
    scanner = _Scanner()
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), 1):
        scanner.line(number, line)
    scanner.finish_option()
    return scanner.ini


class _Scanner:
    def __init__(self) -> None:
        self.ini = Ini()
        self._section = ""
        self._option: tuple[str, int, list[str]] | None = None
        self._indent = 0

    def finish_option(self) -> None:
        if self._option is not None:
            name, line, parts = self._option
            self.ini.entries.append(Entry(self._section, name, "\n".join(parts).rstrip(), line))
            self._option = None

    def line(self, number: int, line: str) -> None:
        content = line.strip()
        if not content or content[0] in "#;":
            if self._option is not None and not content:
                self._option[2].append("")
            return
        indent = len(line) - len(line.lstrip())
        if self._option is not None and indent > self._indent:
            self._option[2].append(content)
            return
        self._indent = indent
        header = _SECTION.match(content)
        if header:
            self._start_section(number, header[1])
        elif not self.ini.sections:
            self._problem(number, "stands before the first section, as [infrastructure]")
        else:
            self._start_option(number, content)

    def _start_section(self, number: int, name: str) -> None:
        self.finish_option()
        self._section = name
        first = self.ini.sections.setdefault(name, number)
        if first != number:
            self._problem(number, f"section [{shown(name)}] stands here again, after line {first}")

    def _start_option(self, number: int, content: str) -> None:
        found = _OPTION.match(content)
        if found and found[1]:
            self.finish_option()
            self._option = (found[1].rstrip().lower(), number, [found[2].strip()])
        else:
            self._problem(number, f'"{shown(content)}" is neither a section nor OPTION = VALUE')

    def _problem(self, number: int, message: str) -> None:
        self.ini.problems.append((number, message))


# -- options -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """One option: how its value is read. Reading raises ValueError with what is wrong."""

    read: Callable[[str], Any]
    default: Any = None


def _integer(minimum: int, default: int | None = None, maximum: int | None = None) -> Option:
    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise ValueError(f'must be a whole number, not "{shown(text)}"')
        number = int(text)
        if number < minimum or (maximum is not None and number > maximum):
            limits = f"at least {minimum}" if maximum is None else f"{minimum} to {maximum}"
            raise ValueError(f"must be {limits}, not {number}")
        return number

    return Option(read, default)


def _number(minimum: float, maximum: float = math.inf, unset: float | None = None) -> Option:
    def read(text: str) -> float | None:
        if not re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", text):
            raise ValueError(f'must be a number, not "{shown(text)}"')
        number = float(text)
        if number == unset:
            return None
        if not minimum <= number <= maximum or math.isinf(number):
            limits = (
                f"at least {minimum:g}" if math.isinf(maximum) else f"{minimum:g} to {maximum:g}"
            )
            raise ValueError(f"must be {limits}, not {shown(text)}")
        return number

    return Option(read)


_BOOLEANS = {
    **dict.fromkeys(("1", "yes", "true", "on"), True),
    **dict.fromkeys(("0", "no", "false", "off"), False),
}


def _boolean() -> Option:
    def read(text: str) -> bool:
        if text.lower() not in _BOOLEANS:
            raise ValueError(f'must be True or False, not "{shown(text)}"')
        return _BOOLEANS[text.lower()]

    return Option(read, default=False)


def _choice(*words: str, default: str | None = None) -> Option:
    def read(text: str) -> str:
        if text not in words:
            advice = nearest(text, words)
            known = f"not one of {', '.join(words)}"
            raise ValueError(f'"{shown(text)}" is {known}' + (f"; {advice}" if advice else ""))
        return text

    return Option(read, default)


def _text() -> Option:
    return Option(lambda text: text.strip("\"'").strip() or None)


def _list() -> Option:
    def read(text: str) -> list[str]:
        names = [part.strip() for part in text.split(",")]
        for name in names:
            if not re.fullmatch(r"[^\s@]+@[^\s@]+", name):
                raise ValueError(f'"{shown(name)}" is not of the form user@host')
        return names

    return Option(read, default=[])


def _address_half() -> Option:
    def read(text: str) -> str:
        parts = text.split(".")
        if len(parts) != 2 or not all(
            re.fullmatch("[0-9]{1,3}", part) and 1 <= int(part) <= 254 for part in parts
        ):
            raise ValueError(f'must be two numbers of 1 to 254, as 192.168, not "{shown(text)}"')
        return ".".join(str(int(part)) for part in parts)

    return Option(read, default="192.168")


_CLOUD_OPTIONS = {
    "gcp": ("gcp_cloud", "gcp_edge", "gcp_endpoint", "gcp_region", "gcp_zone", "gcp_project",
            "gcp_credentials"),
    "aws": ("aws_cloud", "aws_edge", "aws_endpoint", "aws_region", "aws_zone", "aws_access_keys",
            "aws_secret_access_keys", "aws_ami"),
}  # fmt: skip
_MUST_FOR_CLOUD = {"gcp": "gcp_project", "aws": "aws_ami"}
_SECRETS = frozenset({"aws_access_keys", "aws_secret_access_keys"})

INFRASTRUCTURE: dict[str, Option] = {
    "provider": _choice("qemu", "gcp", "aws", "baremetal"),
    "infra_only": _boolean(),
    **{f"{tier}_nodes": _integer(0, default=0) for tier in TIERS},
    # Tiers without machines hold zeros in some files: these are judged with the number of machines.
    **{f"{tier}_cores": _integer(0) for tier in TIERS},
    **{f"{tier}_memory": _integer(0) for tier in TIERS},
    **{f"{tier}_quota": _number(0.0, 1.0) for tier in TIERS},
    **{f"{tier}_read_speed": _integer(0, default=0) for tier in TIERS},
    **{f"{tier}_write_speed": _integer(0, default=0) for tier in TIERS},
    "cpu_pin": _boolean(),
    "network_emulation": _boolean(),
    "wireless_network_preset": _choice("4g", "5g", default="4g"),
    **{f"{pair}_latency_avg": _number(0.0, unset=-1.0) for pair in PAIRS},
    **{f"{pair}_latency_var": _number(0.0, unset=-1.0) for pair in PAIRS},
    **{f"{pair}_throughput": _number(1.0, unset=-1.0) for pair in PAIRS},
    "external_physical_machines": _list(),
    "netperf": _boolean(),
    "base_path": _text(),
    "prefixIP": _address_half(),
    "middleIP": _integer(1, default=100, maximum=254),
    "middleIP_base": _integer(1, default=90, maximum=254),
    "delete": _boolean(),
    **{name: _text() for names in _CLOUD_OPTIONS.values() for name in names},
}

APPLICATIONS = ("image_classification", "empty", "empty_kata", "mem_usage", "stress")
MANAGERS = ("kubernetes", "kubeedge", "mist", "none", "kubecontrol", "kube_kata")
OLD_MANAGERS = ("baremetal", "endpoint")
"""What `none` was called in some files."""

BENCHMARK: dict[str, Option] = {
    "resource_manager": _choice(*MANAGERS, *OLD_MANAGERS),
    "resource_manager_only": _boolean(),
    "runtime": _choice("runc", "kata-qemu", "kata-fc"),
    "runtime_filesystem": _choice("overlayfs", "devmapper"),
    "docker_pull": _boolean(),
    "application": _choice(*APPLICATIONS),
    "application_worker_cpu": _number(0.001),
    "application_worker_memory": _number(0.001),
    "application_endpoint_cpu": _number(0.001),
    "application_endpoint_memory": _number(0.001),
    "applications_per_worker": _integer(1, default=1),
    "frequency": _integer(1),
    "duration": _integer(1, default=300),
    "sleep_time": _integer(1),
    "stress_app_timeout": _integer(1),
    "kube_deployment": _choice("pod", "container", "file", "call", default="pod"),
    "kube_version": _choice(*(f"v1.{minor}.0" for minor in range(23, 28))),
    "cache_worker": _boolean(),
    "observability": _boolean(),
}

EXECUTION_MODEL: dict[str, Option] = {"model": _choice("openfaas")}

SECTIONS = {
    "infrastructure": INFRASTRUCTURE,
    "benchmark": BENCHMARK,
    "execution_model": EXECUTION_MODEL,
}
_ALL = {name: option for options in SECTIONS.values() for name, option in options.items()}

PROVIDERS = {"qemu": "libvirt", "gcp": "terraform", "aws": "terraform", "baremetal": "ssh"}

# -- reading -------------------------------------------------------------------------------------


def read(text: str, file: str) -> Document:
    """An experiment's values in the words of a TOML file, and their places.

    Raises:
        InvalidExperiment: with all problems at once.
    """
    options = _Options(scan(text), file)
    options.read()
    _check(options)
    if options.problems:
        raise InvalidExperiment(tuple(dict.fromkeys(options.problems)))
    return _Translation(options).document()


class _Options:
    """Options that were read, with their lines."""

    def __init__(self, ini: Ini, file: str) -> None:
        self.file = file
        self.problems = [Problem(file, line, message) for line, message in ini.problems]
        self._ini = ini
        self._values: dict[str, Any] = {}
        self._lines: dict[str, int] = {}
        self._bad: set[str] = set()

    def read(self) -> None:
        """Read every option; sections beside the first are left alone with `infra_only`."""
        for section, line in self._ini.sections.items():
            if section not in {*SECTIONS, "DEFAULT"}:
                self._problem(
                    line, f"unknown section [{shown(section)}]", nearest(section, SECTIONS)
                )
        entries = [each for each in self._ini.entries if each.section == "infrastructure"]
        self._read_entries("infrastructure", entries)
        if "infrastructure" not in self._ini.sections:
            self._problem(0, "section [infrastructure] is missing")
        if self["infra_only"]:
            return
        for section in ("benchmark", "execution_model"):
            entries = [each for each in self._ini.entries if each.section == section]
            self._read_entries(section, entries)
        if not self.has_benchmark and "infra_only" not in self._bad:
            self._problem(0, "section [benchmark] is missing", "or set infra_only = True")

    def _read_entries(self, section: str, entries: list[Entry]) -> None:
        options = {name.lower(): name for name in SECTIONS[section]}
        defaults = [
            each
            for each in self._ini.entries
            if each.section == "DEFAULT" and section in self._ini.sections
        ]
        own = {each.name for each in entries}
        for entry in [*entries, *(each for each in defaults if each.name not in own)]:
            name = options.get(entry.name)
            if name is None:
                self._unknown(entry, section)
            elif name in self._lines:
                first = self._lines[name]
                self._problem(entry.line, f"{name} stands here again, after line {first}")
            else:
                self._lines[name] = entry.line
                try:
                    value = SECTIONS[section][name].read(entry.value) if entry.value else None
                except ValueError as error:
                    self._bad.add(name)
                    self._problem(entry.line, f"{name}: {error}")
                    continue
                if value is not None:
                    self._values[name] = value

    def _unknown(self, entry: Entry, section: str) -> None:
        homes = [
            other
            for other, options in SECTIONS.items()
            if entry.name in {name.lower() for name in options}
        ]
        if entry.section == "DEFAULT" and homes:
            return
        hint = f"it belongs in [{homes[0]}]" if homes else nearest(entry.name, SECTIONS[section])
        self._problem(entry.line, f'unknown option "{shown(entry.name)}" in [{section}]', hint)

    def _problem(self, line: int, message: str, hint: str = "") -> None:
        self.problems.append(Problem(self.file, line, message, hint))

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  options have any type
        """The value, else the default."""
        return self._values.get(name, _ALL[name].default)

    @property
    def has_benchmark(self) -> bool:
        """Whether the section stands in the file."""
        return "benchmark" in self._ini.sections

    def written(self, name: str) -> Any:  # noqa: ANN401  options have any type
        """The value as it stands in the file, None when it does not."""
        return self._values.get(name)

    def __contains__(self, name: str) -> bool:
        """Whether the option has a value in the file."""
        return name in self._values

    def source(self, *names: str) -> Source:
        """Where the first of these options that is written stands."""
        for name in names:
            if name in self._values:
                return Source(self.file, self._lines[name])
        return DEFAULT

    def is_bad(self, *names: str) -> bool:
        """Whether one of these options could not be read, so that no rule can speak of it."""
        return any(name in self._bad for name in names)

    def blame(self, names: Sequence[str], message: str, section: str = "benchmark") -> None:
        """A rule is broken: it is blamed on the first of these options that is written."""
        if self.is_bad(*names):
            return
        line = next((self._lines[name] for name in names if name in self._lines), 0)
        self._problem(line or self._ini.sections.get(section, 0), message)

    def must(self, name: str, reason: str, *near: str, section: str = "benchmark") -> None:
        """Blame an option that is missing; `near` are options beside which it is missed."""
        if name not in self._values and name not in self._bad:
            self.blame((name, *near), f"{name} is missing: {reason}", section)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Machines of cloud, edge and endpoint."""
        return self["cloud_nodes"], self["edge_nodes"], self["endpoint_nodes"]

    @property
    def manager(self) -> str | None:
        """The resource manager, by its present name."""
        manager = self["resource_manager"]
        return "none" if manager in OLD_MANAGERS else manager

    @property
    def with_software(self) -> bool:
        return not self["infra_only"]

    @property
    def application(self) -> str | None:
        """The application that is run; one beside `resource_manager_only` is not."""
        if self["infra_only"] or self["resource_manager_only"]:
            return None
        application: str | None = self["application"]
        return application

    @property
    def worker_tier(self) -> str:
        cloud, edge, _ = self.counts
        return "edge" if edge else "cloud" if cloud else "endpoint"


# -- rules over several options ------------------------------------------------------------------

_NODES = tuple(f"{tier}_nodes" for tier in TIERS)


def _check(options: _Options) -> None:
    _check_infrastructure(options)
    if not options["infra_only"] and not options.is_bad("infra_only") and options.has_benchmark:
        _check_benchmark(options)


def _check_infrastructure(options: _Options) -> None:
    where = "infrastructure"
    options.must("provider", "qemu, gcp, aws or baremetal", section=where)
    if sum(options.counts) == 0:
        options.blame(_NODES, "at least one machine is needed", where)
    for tier in TIERS:
        if not options[f"{tier}_nodes"]:
            continue
        for key, minimum in (("cores", 1), ("memory", 1), ("quota", 0.1)):
            name = f"{tier}_{key}"
            reason = f"{tier}_nodes is {options[f'{tier}_nodes']}"
            options.must(name, reason, f"{tier}_nodes", section=where)
            if name in options and options[name] < minimum:
                message = f"{name}: must be at least {minimum}, not {options[name]:g}"
                options.blame((name,), message, where)
    if options["middleIP"] == options["middleIP_base"]:
        options.blame(
            ("middleIP", "middleIP_base"), "middleIP and middleIP_base must differ", where
        )


def _check_benchmark(options: _Options) -> None:
    options.must(
        "resource_manager", f"one of {', '.join(MANAGERS)}", "application", "resource_manager_only"
    )
    if not options["resource_manager_only"]:
        options.must("application", "or set resource_manager_only = True", "resource_manager")
    if not options.is_bad(*_NODES) and options.manager is not None:
        _check_placement(options)
    _check_application(options)
    if options.manager == "kube_kata":
        options.must("runtime", "kube_kata needs kata-qemu or kata-fc", "resource_manager")
        # Firecracker has no other one.
        if options["runtime"] != "kata-fc":
            reason = "kube_kata needs overlayfs or devmapper"
            options.must("runtime_filesystem", reason, "runtime", "resource_manager")
    if "model" in options:
        if options.manager not in {"kubernetes", None}:
            reason = "openfaas needs resource_manager = kubernetes"
            options.blame(("model", "resource_manager"), reason)
        if options.application not in {"image_classification", None}:
            reason = "openfaas needs application = image_classification"
            options.blame(("model", "application"), reason)


def _check_application(options: _Options) -> None:
    application = options.application
    if application == "image_classification":
        options.must("frequency", "image_classification needs it", "application")
        if options["endpoint_nodes"] == 0:
            reason = "image_classification needs at least one endpoint"
            options.blame(("endpoint_nodes", "application"), reason)
        if options.manager == "kubecontrol":
            reason = "image_classification does not run with kubecontrol"
            options.blame(("application",), reason)
    elif application == "empty":
        options.must("sleep_time", "empty needs it", "application")
    elif application == "stress":
        options.must("stress_app_timeout", "stress needs it", "application")


@dataclass(frozen=True)
class _Placement:
    """How many machines a resource manager needs, in words and as a rule; and its workers."""

    wanted: str
    fits: Callable[[int, int, int], bool]
    workers: Callable[[int, int], int] = lambda _cloud, _edge: 0


_PLACEMENTS = {
    "kubernetes": _Placement(
        "at least one cloud machine and no edge machine",
        lambda cloud, edge, _: cloud >= 1 and edge == 0,
        lambda cloud, _: cloud - 1,
    ),
    "kubeedge": _Placement(
        "exactly one cloud machine and at least one edge machine",
        lambda cloud, edge, _: cloud == 1 and edge >= 1,
        lambda _, edge: edge,
    ),
    "mist": _Placement(
        "no cloud machine, and at least one edge and one endpoint machine",
        lambda cloud, edge, endpoint: cloud == 0 and edge >= 1 and endpoint >= 1,
        lambda _, edge: edge,
    ),
    "none": _Placement(
        "at most one cloud machine and no edge machine",
        lambda cloud, edge, _: cloud <= 1 and edge == 0,
        lambda cloud, _: cloud,
    ),
    "kubecontrol": _Placement(
        "at least two cloud machines and no edge machine",
        lambda cloud, edge, _: cloud >= 2 and edge == 0,
    ),
    "kube_kata": _Placement(
        "at least two cloud machines and no edge machine",
        lambda cloud, edge, _: cloud >= 2 and edge == 0,
    ),
}


def _check_placement(options: _Options) -> None:
    cloud, edge, endpoint = options.counts
    manager = options.manager
    assert manager is not None
    if manager == "none" and options.application is None:
        # Machines and nothing on them: any number of each.
        return
    placement = _PLACEMENTS[manager]
    workers = placement.workers(cloud, edge)
    wanted = "" if placement.fits(cloud, edge, endpoint) else placement.wanted
    if manager == "kubernetes" and not wanted and not workers and options.application is not None:
        wanted = "a second cloud machine for workers, beside the control plane"
    if wanted:
        have = f"this file has {cloud} cloud, {edge} edge and {endpoint} endpoint machines"
        options.blame(("resource_manager", *_NODES), f"{manager} needs {wanted}; {have}")
    elif workers > 0 and endpoint % workers:
        reason = f"{endpoint} endpoints cannot be shared equally among {workers} workers"
        options.blame(("endpoint_nodes",), reason)


# -- into the words of a TOML file ---------------------------------------------------------------


def _plain(number: float) -> str:
    return repr(number).removesuffix(".0")


class _Translation:
    """Builds the document from options that keep all rules."""

    def __init__(self, options: _Options) -> None:
        self.options = options
        self._document = Document(options.file, {})

    def document(self) -> Document:
        self._infrastructure()
        self._tiers()
        self._network()
        if self.options.with_software:
            self._software()
            self._benchmark()
        self._unused()
        return self._document

    # Every value goes through here, with the options from which it follows.
    def _set(self, path: KeyPath, value: object, *names: str) -> None:
        holder = self._document.values
        for key in path[:-1]:
            holder = holder.setdefault(str(key), {})
        holder[str(path[-1])] = value
        source = self.options.source(*names)
        self._document.sources[path] = source
        # Tables stand where their first value does.
        for length in range(1, len(path)):
            if source.line:
                self._document.sources.setdefault(path[:length], source)

    def _note(self, text: str) -> None:
        self._document.notes.append(text)

    def _cannot_run(self, path: KeyPath, text: str) -> None:
        self._document.reasons.append(Reason(path, self._document.get(path), text))

    def _infrastructure(self) -> None:
        options = self.options
        old = options["provider"]
        self._set(("infrastructure", "provider"), PROVIDERS[old], "provider")
        if PROVIDERS[old] == "ssh":
            reason = 'provider "ssh" needs its machines by name, which only a TOML file can say'
            self._cannot_run(("infrastructure", "provider"), reason)
        for name in ("cpu_pin", "delete"):
            self._set(("infrastructure", name), options[name], name)
        if "prefixIP" in options or "middleIP" in options:
            block = f"{options['prefixIP']}.{options['middleIP']}.0"
            self._set(("infrastructure", "address_block"), block, "middleIP", "prefixIP")
        machines = "external_physical_machines"
        if options[machines] and old not in _CLOUD_OPTIONS:
            self._set(("hosts",), [{"ssh": each} for each in options[machines]], machines)
        if old not in _CLOUD_OPTIONS:
            return
        settings = ("infrastructure", "terraform")
        self._set((*settings, "platform"), old, "provider")
        for name in _CLOUD_OPTIONS[old]:
            if name in options and name not in _SECRETS:
                self._set((*settings, name.removeprefix(f"{old}_")), options[name], name)
        must = _MUST_FOR_CLOUD[old]
        if must not in options:
            self._cannot_run(("infrastructure", "provider"), f"{must} has no value")

    def _tiers(self) -> None:
        options = self.options
        for tier in TIERS:
            nodes = f"{tier}_nodes"
            if not options[nodes]:
                continue
            self._set(("tiers", tier, "machines"), options[nodes], nodes)
            for name in ("cores", "quota"):
                self._set(("tiers", tier, name), options[f"{tier}_{name}"], f"{tier}_{name}")
            memory = f"{tier}_memory"
            self._set(("tiers", tier, "memory"), f"{options[memory]} GiB", memory)
            for key, name in (
                ("disk_read", f"{tier}_read_speed"),
                ("disk_write", f"{tier}_write_speed"),
            ):
                if options[name]:
                    self._set(("tiers", tier, key), f"{options[name]} MB/s", name)

    def _network(self) -> None:
        options = self.options
        if not options["network_emulation"]:
            if options["netperf"]:
                self._note("netperf: without network_emulation there are no links to measure")
            return
        self._set(
            ("network", "preset"), options["wireless_network_preset"], "wireless_network_preset"
        )
        self._set(("network", "all_pairs"), options["netperf"], "netperf")
        # The original leaves netem's limit at what it is: 1000 packets, here of full frames.
        self._set(("network", "queue"), "1514 kB", "network_emulation")
        links: list[dict[str, Any]] = []
        for pair, ends in PAIRS.items():
            written = {
                key: (name, f"{_plain(options[name])} {unit}")
                for key, name, unit in (
                    ("delay", f"{pair}_latency_avg", "ms"),
                    ("jitter", f"{pair}_latency_var", "ms"),
                    ("rate", f"{pair}_throughput", "Mbit/s"),
                )
                if name in options
            }
            if not written:
                continue
            if not all(options[f"{end}_nodes"] for end in ends):
                self._note(f"{next(iter(written.values()))[0]}: not used, a tier has no machines")
                continue
            path = ("network", "links", len(links))
            links.append(
                {"between": list(ends)} | {key: text for key, (_, text) in written.items()}
            )
            first = options.source(next(iter(written.values()))[0])
            self._document.sources[path] = first
            for key, (name, _) in written.items():
                self._document.sources[*path, key] = options.source(name)
        if links:
            self._document.values["network"]["links"] = links

    def _software(self) -> None:
        options = self.options
        manager = options.manager
        names = {"mist": "none", "kubecontrol": "kubernetes"}
        assert manager is not None
        self._set(("software", "manager"), names.get(manager, manager), "resource_manager")
        kubernetes = manager not in {"none", "mist"}
        if "model" in options:
            self._set(("software", "execution_model"), "function", "model")
            self._set(("software", "serverless", "distribution"), "community", "model")
            self._note(
                "openfaas: its Community Edition has a licence of its own; accept it by "
                "software.serverless.accept_licence = true"
            )
        else:
            how = "container" if kubernetes else "process"
            self._set(("software", "execution_model"), how, "resource_manager")
        self._set(("software", "observability"), options["observability"], "observability")
        if kubernetes:
            if "kube_version" in options:
                version = options["kube_version"].removeprefix("v")
                self._set(("software", "kubernetes", "version"), version, "kube_version")
            else:
                self._note("kube_version is not set: the default version of Kubernetes is taken")
        if manager == "kubecontrol":
            self._note("kubecontrol: measured on an unmodified Kubernetes")
        if "runtime" in options and options["runtime"] != "runc":
            self._cannot_run(
                ("software", "manager"),
                f"runtime {options['runtime']} (Kata containers) is not part of this version",
            )
        if manager == "kube_kata" and "runtime_filesystem" not in options:
            self._note("runtime_filesystem is not set: kata-fc has devmapper only")

    def _benchmark(self) -> None:
        options = self.options
        application = options.application
        if application is None:
            if "application" in options:
                self._note("application: ignored, resource_manager_only is set")
            return
        self._set(("benchmark", "application"), application, "application")
        tier = options.worker_tier
        self._set(("benchmark", "workers"), tier, "resource_manager")
        endpoints = "endpoint" if options["endpoint_nodes"] else ""
        self._set(("benchmark", "endpoints"), endpoints, "endpoint_nodes")
        per_machine = "applications_per_worker"
        self._set(("benchmark", "workers_per_machine"), options[per_machine], per_machine)
        self._resources(tier, endpoints)
        for key, name, unit in (("frequency", "frequency", "Hz"), ("duration", "duration", "s")):
            if options[name] is not None:
                self._set(("benchmark", key), f"{options[name]} {unit}", name)
        self._set(("benchmark", "warmup"), "0 s")
        own = ("benchmark", application)
        if "sleep_time" in options and application in _SLEEPING:
            self._set((*own, "sleep_time"), f"{options['sleep_time']} s", "sleep_time")
        if "stress_app_timeout" in options and application == "stress":
            timeout = "stress_app_timeout"
            self._set((*own, "timeout"), f"{options[timeout]} s", timeout)
        if application != "image_classification":
            self._set((*own, "deployment"), options["kube_deployment"], "kube_deployment")
        if options.manager == "kube_kata":
            self._set((*own, "runtime"), options["runtime"], "runtime")
            file_system = options["runtime_filesystem"] or "devmapper"
            self._set((*own, "runtime_filesystem"), file_system, "runtime_filesystem")

    def _resources(self, tier: str, endpoints: str) -> None:
        """What a worker and an endpoint may use, in 1.x always a part of their machine."""
        options = self.options
        for side, machine, spare in (("worker", tier, 0.5), ("endpoint", endpoints, 0.0)):
            if not machine:
                continue
            for key, size, unit in (("cpu", "cores", ""), ("memory", "memory", " GiB")):
                name = f"application_{side}_{key}"
                amount = options[name]
                # An endpoint that is its own worker has what an endpoint has.
                if amount is None and side == "worker" and machine == endpoints:
                    continue
                if amount is None:
                    amount = float(options[f"{machine}_{size}"]) - spare
                value = f"{_plain(amount)}{unit}" if unit else amount
                self._set(("benchmark", f"{side}_{key}"), value, name)

    def _unused(self) -> None:
        """Say which options have a value and no counterpart."""
        options = self.options
        for name, reason in _UNUSED.items():
            if options.written(name):
                self._note(f"{name}: {reason}")
        provider = options["provider"]
        if options["external_physical_machines"] and provider in _CLOUD_OPTIONS:
            self._note(f"external_physical_machines: not used with provider {provider}")
        for platform, names in _CLOUD_OPTIONS.items():
            written = [name for name in names if name in options]
            if written and provider != platform:
                self._note(f"{', '.join(written)}: not used with provider {provider}")
            elif _SECRETS & set(written):
                self._note("aws_access_keys, aws_secret_access_keys: not kept")
        if options.with_software:
            for name, beside in _beside(options).items():
                self._note(f"{name}: not used {beside}")


def _beside(options: _Options) -> dict[str, str]:
    """Written options that mean nothing beside others, and beside what."""
    manager, application = options.manager, options.application
    reasons: dict[str, str] = {}
    if manager in {"none", "mist"}:
        reasons["kube_version"] = f"with {manager}"
        # Any other than runc is told of as one that cannot be had.
        if options["runtime"] == "runc":
            reasons["runtime"] = f"with {manager}"
    if manager != "kube_kata":
        reasons["runtime_filesystem"] = f"with {manager}"
    if not options["endpoint_nodes"]:
        reasons |= dict.fromkeys(_OF_ENDPOINTS, "without endpoints")
    if application not in _SLEEPING:
        reasons["sleep_time"] = f"with {application}"
    if application != "stress":
        reasons["stress_app_timeout"] = f"with {application}"
    if application == "image_classification":
        reasons["kube_deployment"] = f"with {application}"
    if application is None:
        reasons |= dict.fromkeys((*_OF_APPLICATIONS, *_OF_ENDPOINTS), "with resource_manager_only")
    return {name: reasons[name] for name in BENCHMARK if name in reasons and name in options}


_SLEEPING = frozenset({"empty", "empty_kata"})
_OF_ENDPOINTS = ("application_endpoint_cpu", "application_endpoint_memory")
_OF_APPLICATIONS = (
    "runtime_filesystem",
    "application_worker_cpu",
    "application_worker_memory",
    "applications_per_worker",
    "frequency",
    "duration",
    "sleep_time",
    "stress_app_timeout",
    "kube_deployment",
)
_UNUSED = {
    "base_path": "not used; deployments are in the user's state folder",
    "middleIP_base": "not used; images are built without machines of their own",
    "docker_pull": "not used; images come from the cache, else from their sources",
    "cache_worker": "not used; images are on every machine before a benchmark begins",
}
