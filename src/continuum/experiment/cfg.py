"""Reader of Continuum 1.x `.cfg` files; see `docs/legacy-cfg.md`.

What such a file says is put into the words of a TOML file: same keys, quantities with units. So it
goes through the same rules, takes the same overrides, and can be written out as TOML.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from continuum.errors import InvalidExperiment, Problem
from continuum.experiment import units
from continuum.experiment.check import nearest
from continuum.experiment.document import Document, KeyPath, Reason, Source, shown
from continuum.experiment.ini import Entry, Ini, scan

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

# -- options -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Option:
    """One option: how its value is read. Reading raises ValueError with what is wrong."""

    read: Callable[[str], Any]
    default: Any = None
    free: bool = False
    """Tell whether any text may stand here, in quotes or not."""


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


def _choice(
    *words: str,
    default: str | None = None,
    older: Mapping[str, str] | None = None,
    elsewhere: str = "",
) -> Option:
    """One of a few words in any case.

    `older`: the present names of words in older files. `elsewhere`: a pattern of words that only
    another branch of Continuum 1.x knows.
    """
    known = {word.lower(): word for word in words} | {
        word.lower(): new for word, new in (older or {}).items()
    }

    def read(text: str) -> str:
        if text.lower() not in known:
            advice = nearest(text, words)
            if re.fullmatch(elsewhere, text):
                advice = "it belongs to another branch of Continuum 1.x, and this version has none"
            message = f"not one of {', '.join(words)}"
            raise ValueError(f'"{shown(text)}" is {message}' + (f"; {advice}" if advice else ""))
        return known[text.lower()]

    return Option(read, default)


def _text() -> Option:
    return Option(lambda text: text.strip("\"'").strip() or None, free=True)


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
            "aws_secret_access_keys", "aws_ami", "aws_key"),
}  # fmt: skip
TERRAFORM = "terraform"
"""As `provider`: what `gcp` was called before there was a second cloud."""
_MUST_FOR_CLOUD = {"gcp": "gcp_project", "aws": "aws_ami"}
_SECRETS = frozenset({"aws_access_keys", "aws_secret_access_keys"})
_OF_AN_ACCOUNT = _SECRETS | {"aws_key"}

INFRASTRUCTURE: dict[str, Option] = {
    "provider": _choice("qemu", "gcp", "aws", "baremetal", older={TERRAFORM: TERRAFORM}),
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
    # The others replay recorded traces of radio links.
    "wireless_network_preset": _choice("4g", "5g", default="4g", elsewhere=".+_mahimahi"),
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
    "custom_scheduling": _boolean(),
    **{f"{tier}_location": _text() for tier in TIERS[:2]},
    **{name: _text() for names in _CLOUD_OPTIONS.values() for name in names},
}

APPLICATIONS = ("image_classification", "empty", "empty_kata", "mem_usage", "stress")
MANAGERS = ("kubernetes", "kubeedge", "mist", "none", "kubecontrol", "kube_kata")
OLD_MANAGERS = ("baremetal", "endpoint")
"""What `none` was called in some files."""

BENCHMARK: dict[str, Option] = {
    "resource_manager": _choice(
        *MANAGERS, *OLD_MANAGERS, older={"kubernetes-control": "kubecontrol"}
    ),
    "resource_manager_only": _boolean(),
    "runtime": _choice("runc", "kata-qemu", "kata-fc"),
    "runtime_filesystem": _choice("overlayfs", "devmapper"),
    "docker_pull": _boolean(),
    "application": _choice(*APPLICATIONS, elsewhere="minecraft|opencraft|text_translation"),
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

_OF_BENCHMARK: tuple[KeyPath, ...] = (("software",), ("benchmark",))
_PLACED: tuple[KeyPath, ...] = (
    ("software", "manager"),
    *(("tiers", tier, "machines") for tier in TIERS),
)
"""Keys of which the rules of a resource manager speak."""

KEYS: dict[str, tuple[KeyPath, ...]] = {
    name: (path,)
    for name, path in {
        "provider": ("infrastructure", "provider"),
        **{
            name: ("infrastructure", "provider")
            for names in _CLOUD_OPTIONS.values()
            for name in names
        },
        "cpu_pin": ("infrastructure", "cpu_pin"),
        "delete": ("infrastructure", "delete"),
        "prefixIP": ("infrastructure", "address_block"),
        "middleIP": ("infrastructure", "address_block"),
        "middleIP_base": ("infrastructure", "address_block"),
        **{
            f"{tier}_{option}": ("tiers", tier, key)
            for tier in TIERS
            for option, key in (
                ("nodes", "machines"),
                ("cores", "cores"),
                ("memory", "memory"),
                ("quota", "quota"),
                ("read_speed", "disk_read"),
                ("write_speed", "disk_write"),
            )
        },
        "network_emulation": ("network",),
        "wireless_network_preset": ("network", "preset"),
        **{
            f"{pair}_{option}": ("network", "links")
            for pair in PAIRS
            for option in ("latency_avg", "latency_var", "throughput")
        },
        "netperf": ("network", "all_pairs"),
        "external_physical_machines": ("hosts",),
        "resource_manager": ("software", "manager"),
        "observability": ("software", "observability"),
        "kube_version": ("software", "kubernetes", "version"),
        "model": ("software", "execution_model"),
        "application": ("benchmark", "application"),
        "applications_per_worker": ("benchmark", "workers_per_machine"),
        "application_worker_cpu": ("benchmark", "worker_cpu"),
        "application_worker_memory": ("benchmark", "worker_memory"),
        "application_endpoint_cpu": ("benchmark", "endpoint_cpu"),
        "application_endpoint_memory": ("benchmark", "endpoint_memory"),
        "frequency": ("benchmark", "frequency"),
        "duration": ("benchmark", "duration"),
    }.items()
}
"""Keys of a TOML file that take an option's place when they are given beside the file."""

PROVIDERS = {"qemu": "libvirt", "gcp": "terraform", "aws": "terraform", "baremetal": "ssh"}

# -- reading -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A problem that is none any more when one of the keys at `paths` is given beside the file.

    `comment`: the value is wrong for a comment behind it; all such faults are told as one.
    """

    problem: Problem
    paths: tuple[KeyPath, ...] = ()
    comment: bool = False


def read(text: str, file: str) -> Document:
    """An experiment's values in the words of a TOML file, and their places.

    What is wrong in the file is raised by the document's `finish`, all at once: values that are
    given beside the file take the place of the file's before it is judged.
    """
    options = _Options(scan(text), file)
    options.read()
    _check(options)
    return _Translation(options).document()


class _Options:
    """Options that were read, with their lines."""

    def __init__(self, ini: Ini, file: str) -> None:
        self.file = file
        self.faults = [Fault(Problem(file, line, message)) for line, message in ini.problems]
        self.notes: list[str] = []
        self._ini = ini
        self._values: dict[str, Any] = {}
        self._lines: dict[str, int] = {}
        self._bad: dict[str, Fault] = {}

    def read(self) -> None:
        """Read every option; sections beside the first are left alone with `infra_only`."""
        for section, line in self._ini.sections.items():
            if section not in {*SECTIONS, "DEFAULT"}:
                self._fault(line, f"unknown section [{shown(section)}]", nearest(section, SECTIONS))
        if "infrastructure" not in self._ini.sections:
            self._fault(0, "section [infrastructure] is missing")
            self._bad |= dict.fromkeys(_JUDGED_TOGETHER, self.faults[-1])
        self._read_section("infrastructure")
        self._name_the_cloud()
        if not self["infra_only"]:
            # An option of the first section may stand in the others.
            moved = [name for name in self._moved("infrastructure") if name != "infra_only"]
            self._read_moved("infrastructure", moved)
            for section in ("benchmark", "execution_model"):
                self._read_section(section)
                self._read_moved(section, self._moved(section))
            whole = "infrastructure" in self._ini.sections
            if whole and not self.has_benchmark and not self.is_bad("infra_only"):
                hint = "or set infra_only = True"
                self._fault(0, "section [benchmark] is missing", hint, _OF_BENCHMARK)
        self._pass_over_what_is_not_used()

    def _read_section(self, section: str) -> None:
        entries = [each for each in self._ini.entries if each.section == section]
        own = {each.name for each in entries}
        if section in self._ini.sections:
            entries += [
                each
                for each in self._ini.entries
                if each.section == "DEFAULT" and each.name not in own
            ]
        options = {name.lower(): name for name in SECTIONS[section]}
        for entry in entries:
            name = options.get(entry.name)
            if name is not None:
                self._read_entry(section, name, entry)
            elif not self._stands_in_the_wrong_section(entry):
                self._unknown(entry, section)

    def _read_entry(self, section: str, name: str, entry: Entry) -> None:
        if name in self._lines:
            first = self._lines[name]
            self._fault(entry.line, f"{name} stands here again, after line {first}")
            return
        self._lines[name] = entry.line
        if not entry.value:
            return
        option = SECTIONS[section][name]
        text = entry.value
        quoted = _QUOTED.fullmatch(text) if option.free else None
        if quoted:
            text = quoted[2]
            self.notes.append(f"{name}: the comment behind the quotes is not a part of it")
        try:
            if _has_comment(option, text):
                problem = Problem(self.file, entry.line, f"{name}: {_BEHIND}")
                self._bad[name] = Fault(problem, KEYS.get(name, ()), comment=True)
                return
            value = option.read(text)
        except ValueError as error:
            problem = Problem(self.file, entry.line, f"{name}: {error}")
            self._bad[name] = Fault(problem, KEYS.get(name, ()))
            return
        if value is not None:
            self._values[name] = value
        if isinstance(value, str) and name in _CHOICES and value != entry.value:
            self.notes.append(f'{name}: "{shown(entry.value)}" is read as {value}')

    def _moved(self, section: str) -> list[str]:
        """Names of a section's options that stand, once, in another one, and not in their own."""
        return [
            name
            for name in SECTIONS[section]
            if name not in self._lines
            and [each.section for each in self._entries(name)].count("DEFAULT") == 0
            and len(self._entries(name)) == 1
        ]

    def _entries(self, name: str) -> list[Entry]:
        known = {*SECTIONS, "DEFAULT"}
        return [
            each
            for each in self._ini.entries
            if each.name == name.lower() and each.section in known
        ]

    def _read_moved(self, section: str, names: Iterable[str]) -> None:
        for name in names:
            (entry,) = self._entries(name)
            self._read_entry(section, name, entry)
            self.notes.append(f"{name}: read as in [{section}], where it belongs")

    def _stands_in_the_wrong_section(self, entry: Entry) -> bool:
        """Tell whether an option is read all the same, since it does not stand in its own section."""
        if entry.section == "DEFAULT":
            return False
        home = _HOMES.get(entry.name)
        if home in {None, entry.section} or entry.name == "infra_only":
            return False
        return len(self._entries(entry.name)) == 1

    def _name_the_cloud(self) -> None:
        """`terraform` is the one cloud whose options stand in the file."""
        if self["provider"] != TERRAFORM:
            return
        named = [
            cloud
            for cloud, names in _CLOUD_OPTIONS.items()
            if any(each in self or self.is_bad(each) for each in names)
        ]
        if len(named) == 1:
            self._values["provider"] = named[0]
            self.notes.append(f'provider: "{TERRAFORM}" is read as {named[0]}')
            return
        del self._values["provider"]
        which = "both clouds" if named else "no cloud"
        message = f'provider: "{TERRAFORM}" with options of {which}: write gcp or aws'
        problem = Problem(self.file, self._lines["provider"], message)
        self._bad["provider"] = Fault(problem, KEYS["provider"])

    def _pass_over_what_is_not_used(self) -> None:
        """Note wrong values of options that mean nothing beside others; the other ones are faults."""
        unused = _without_use(self) | (_beside(self) if self.with_software else {})
        for name, fault in list(self._bad.items()):
            if name in unused and not fault.comment:
                self.notes.append(f"{fault.problem.message}; not used {unused[name]}")
                del self._bad[name]
                self._lines.pop(name)
            elif fault not in self.faults:
                self.faults.append(fault)

    def _unknown(self, entry: Entry, section: str) -> None:
        home = _HOMES.get(entry.name)
        if entry.section == "DEFAULT" and home:
            return
        hint = f"it belongs in [{home}]" if home else nearest(entry.name, SECTIONS[section])
        self._fault(entry.line, f'unknown option "{shown(entry.name)}" in [{section}]', hint)

    def _fault(
        self, line: int, message: str, hint: str = "", paths: tuple[KeyPath, ...] = ()
    ) -> None:
        self.faults.append(Fault(Problem(self.file, line, message, hint), paths))

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401  options have any type
        """The value, else the default."""
        return self._values.get(name, _ALL[name].default)

    @property
    def has_benchmark(self) -> bool:
        """Tell whether the section stands in the file, or an option of it in another one."""
        return "benchmark" in self._ini.sections or any(name in self for name in BENCHMARK)

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

    def blame(
        self,
        names: Sequence[str],
        message: str,
        section: str = "benchmark",
        paths: tuple[KeyPath, ...] | None = None,
    ) -> None:
        """A rule is broken: it is blamed on the first of these options that is written.

        It counts until one of the options' keys, or of `paths`, is given beside the file.
        """
        if self.is_bad(*names):
            return
        line = next((self._lines[name] for name in names if name in self._lines), 0)
        if paths is None:
            paths = tuple(path for name in names for path in KEYS.get(name, ()))
        self._fault(line or self._ini.sections.get(section, 0), message, paths=paths)

    def must(
        self,
        name: str,
        reason: str,
        *near: str,
        section: str = "benchmark",
        paths: tuple[KeyPath, ...] | None = None,
    ) -> None:
        """Blame an option that is missing; `near` are options beside which it is missed."""
        if name not in self._values and name not in self._bad:
            message = f"{name} is missing: {reason}"
            own = KEYS.get(name, ()) if paths is None else paths
            self.blame((name, *near), message, section, own)

    @property
    def counts(self) -> tuple[int, int, int]:
        """Machines of cloud, edge and endpoint."""
        return self["cloud_nodes"], self["edge_nodes"], self["endpoint_nodes"]

    def has_tier(self, tier: str) -> bool:
        """Tell whether a tier has machines, or may have: how many could not be read."""
        return bool(self[f"{tier}_nodes"]) or self.is_bad(f"{tier}_nodes")

    @property
    def manager(self) -> str | None:
        """The resource manager, by its present name; older files have none for endpoints alone."""
        manager = self["resource_manager"]
        if manager is None and self.has_no_manager:
            return "none"
        return "none" if manager in OLD_MANAGERS else manager

    @property
    def has_no_manager(self) -> bool:
        """Tell whether the file leaves the manager out, and has endpoints alone."""
        left_out = "resource_manager" not in self and not self.is_bad("resource_manager")
        return (
            left_out and self.has_benchmark and self.counts[:2] == (0, 0) and bool(self.counts[2])
        )

    @property
    def memory_follows_cores(self) -> bool:
        """Tell whether the file is older than the memory of tiers, which was a GB for each core then.

        It is when it has neither that nor an option that is as new.
        """
        return not any(name in self._lines for name in _AS_NEW_AS_MEMORY)

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
    def runs_application(self) -> bool:
        """Tell whether an application is run, also one whose name could not be read."""
        return self.with_software and not self["resource_manager_only"]


_AS_NEW_AS_MEMORY = (
    *(f"{tier}_{option}" for tier in TIERS for option in ("memory", "read_speed", "write_speed")),
    *(name for names in _CLOUD_OPTIONS.values() for name in names),
    *("runtime", "runtime_filesystem", "duration", "stress_app_timeout"),
    *("kube_deployment", "kube_version", "cache_worker", "observability"),
)
_HOMES = {name.lower(): section for section, options in SECTIONS.items() for name in options}
_JUDGED_TOGETHER = ("provider", *(f"{tier}_nodes" for tier in TIERS))
_CHOICES = frozenset(
    {
        "provider",
        "wireless_network_preset",
        "resource_manager",
        "runtime",
        "runtime_filesystem",
        "application",
        "kube_deployment",
        "kube_version",
        "model",
    }
)

_QUOTED = re.compile(r"""(["'])([^"']*)\1\s*[#;].*""")
_BEHIND = "a comment behind a value is a part of it: put it on a line of its own"


def _has_comment(option: Option, text: str) -> bool:
    """Tell whether a comment stands behind a value."""
    if re.search(r"(^|\s)[#;]", text):
        return True
    before = re.split("[#;]", text, maxsplit=1)[0].strip()
    return before != text and _can_read(option, before) and not _can_read(option, text)


def _can_read(option: Option, text: str) -> bool:
    try:
        option.read(text)
    except ValueError:
        return False
    return True


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
        options.blame(_NODES, "at least one machine is needed", where, (("tiers",),))
    for tier in TIERS:
        if not options[f"{tier}_nodes"]:
            continue
        for key, minimum in (("cores", 1), ("memory", 1), ("quota", 0.1)):
            name = f"{tier}_{key}"
            if key != "memory" or not options.memory_follows_cores:
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
    if not options.has_no_manager:
        reason = f"one of {', '.join(MANAGERS)}"
        options.must("resource_manager", reason, "application", "resource_manager_only")
    if not options["resource_manager_only"]:
        options.must("application", "or set resource_manager_only = True", "resource_manager")
    if not options.is_bad(*_NODES) and options.manager is not None:
        _check_placement(options)
    _check_application(options)
    if options.manager == "kube_kata":
        manager = KEYS["resource_manager"]
        reason = "kube_kata needs kata-qemu or kata-fc"
        options.must("runtime", reason, "resource_manager", paths=manager)
        # Firecracker has no other one.
        if options["runtime"] != "kata-fc":
            reason = "kube_kata needs overlayfs or devmapper"
            near = ("runtime", "resource_manager")
            options.must("runtime_filesystem", reason, *near, paths=manager)
    if "model" in options:
        if options.manager not in {"kubernetes", None}:
            reason = "openfaas needs resource_manager = kubernetes"
            options.blame(("model", "resource_manager"), reason)
        if options.application not in {"image_classification", None}:
            reason = "openfaas needs application = image_classification"
            options.blame(("model", "application"), reason)


def _check_application(options: _Options) -> None:
    application = options.application
    other: tuple[KeyPath, ...] = (("benchmark", "application"),)
    if application == "image_classification":
        paths = (*KEYS["frequency"], *other)
        options.must("frequency", "image_classification needs it", "application", paths=paths)
        if options["endpoint_nodes"] == 0:
            reason = "image_classification needs at least one endpoint"
            options.blame(("endpoint_nodes", "application"), reason)
        if options.manager == "kubecontrol":
            reason = "image_classification does not run with kubecontrol"
            options.blame(("application",), reason, paths=(*other, ("software", "manager")))
    elif application == "empty":
        paths = (("benchmark", "empty", "sleep_time"), *other)
        options.must("sleep_time", "empty needs it", "application", paths=paths)
    elif application == "stress":
        paths = (("benchmark", "stress", "timeout"), *other)
        options.must("stress_app_timeout", "stress needs it", "application", paths=paths)


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
        options.blame(("endpoint_nodes",), reason, paths=_PLACED)


# -- into the words of a TOML file ---------------------------------------------------------------


def _plain(number: float) -> str:
    return repr(number).removesuffix(".0")


class _Translation:
    """Builds the document from options; what is missing or wrong is left out."""

    def __init__(self, options: _Options) -> None:
        self.options = options
        self._document = Document(options.file, {}, notes=[*options.notes], finish=self.finish)

    def document(self) -> Document:
        self._infrastructure()
        self._tiers()
        self._network()
        if self.options.with_software:
            self._software()
            self._benchmark()
        self._unused()
        return self._document

    def finish(self, document: Document) -> None:
        """Fill in what follows from other values, those that were given beside the file among them.

        Raises:
            InvalidExperiment: with all faults that such values have not mended.
        """
        assert document is self._document
        left = [each for each in self.options.faults if not document.has_override(each.paths)]
        if left:
            raise InvalidExperiment(tuple(dict.fromkeys(_problems(left))))
        self._leave_out_empty_tiers()
        self._memory_of_cores()
        if self.options.with_software:
            self._execution_model()
            self._places()

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

    def _copy(self, path: KeyPath, name: str, unit: str = "") -> None:
        """Set what an option says, with a unit if there is one; nothing if it says nothing."""
        value = self.options[name]
        if value is not None and not self.options.is_bad(name):
            self._set(path, f"{_plain(value)} {unit}" if unit else value, name)

    def _fill(self, path: KeyPath, value: object, *names: str) -> None:
        """Set what follows from other values, where nothing is."""
        holder = self._document.get(path[:-1])
        if isinstance(holder, dict) and path[-1] not in holder:
            self._set(path, value, *names)

    def _note(self, text: str) -> None:
        self._document.notes.append(text)

    def _cannot_run(self, path: KeyPath, text: str) -> None:
        self._document.reasons.append(Reason(path, self._document.get(path), text))

    def _infrastructure(self) -> None:
        options = self.options
        for name in ("cpu_pin", "delete"):
            self._copy(("infrastructure", name), name)
        if "prefixIP" in options or "middleIP" in options:
            block = f"{options['prefixIP']}.{options['middleIP']}.0"
            self._set(("infrastructure", "address_block"), block, "middleIP", "prefixIP")
        old = options["provider"]
        machines = "external_physical_machines"
        if options[machines] and old not in _CLOUD_OPTIONS:
            self._set(("hosts",), [{"ssh": each} for each in options[machines]], machines)
        if old is None:
            return
        self._set(("infrastructure", "provider"), PROVIDERS[old], "provider")
        if PROVIDERS[old] == "ssh":
            reason = 'provider "ssh" needs its machines by name, which only a TOML file can say'
            self._cannot_run(("infrastructure", "provider"), reason)
        if old not in _CLOUD_OPTIONS:
            return
        settings = ("infrastructure", "terraform")
        self._set((*settings, "platform"), old, "provider")
        for name in _CLOUD_OPTIONS[old]:
            if name in options and name not in _OF_AN_ACCOUNT:
                self._set((*settings, name.removeprefix(f"{old}_")), options[name], name)
        must = _MUST_FOR_CLOUD[old]
        if must not in options:
            self._cannot_run(("infrastructure", "provider"), f"{must} has no value")

    def _tiers(self) -> None:
        """Set what tiers have; those without machines go when the document is finished."""
        for tier in TIERS:
            path = ("tiers", tier)
            self._copy((*path, "machines"), f"{tier}_nodes")
            for name in ("cores", "quota"):
                self._copy((*path, name), f"{tier}_{name}")
            self._copy((*path, "memory"), f"{tier}_memory", "GiB")
            for key, name in (
                ("disk_read", f"{tier}_read_speed"),
                ("disk_write", f"{tier}_write_speed"),
            ):
                if self.options[name]:
                    self._copy((*path, key), name, "MB/s")

    def _leave_out_empty_tiers(self) -> None:
        tiers = self._document.get(("tiers",))
        for name in TIERS if isinstance(tiers, dict) else ():
            table = tiers.get(name)
            empty = isinstance(table, dict) and table.get("machines", 0) == 0
            if empty and not self._document.has_override([("tiers", name)]):
                del tiers[name]

    def _memory_of_cores(self) -> None:
        """Set the memory of tiers in files that are older than the option: a GB for each core."""
        tiers = self._document.get(("tiers",))
        if not self.options.memory_follows_cores or not isinstance(tiers, dict):
            return
        given = []
        for tier in TIERS:
            cores = self._document.get(("tiers", tier, "cores"))
            if self._document.get(("tiers", tier, "memory")) is None and isinstance(cores, int):
                self._fill(("tiers", tier, "memory"), f"{cores} GiB", f"{tier}_cores")
                given.append(f"{tier} {cores} GiB")
        if given:
            self._note(
                f"no tier has a memory: 1 GiB for each core, as in older files ({', '.join(given)})"
            )

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
        if manager is not None:
            self._set(("software", "manager"), names.get(manager, manager), "resource_manager")
        if options.has_no_manager:
            self._note("resource_manager is not set: none, for endpoints alone")
        kubernetes = manager not in {"none", "mist"}
        if "model" in options:
            self._set(("software", "execution_model"), "function", "model")
            self._set(("software", "serverless", "distribution"), "community", "model")
            self._note(
                "openfaas: its Community Edition has a licence of its own; accept it by "
                "software.serverless.accept_licence = true"
            )
        self._copy(("software", "observability"), "observability")
        if kubernetes:
            if "kube_version" in options:
                version = options["kube_version"].removeprefix("v")
                self._set(("software", "kubernetes", "version"), version, "kube_version")
            else:
                self._note("kube_version is not set: the default version of Kubernetes is taken")
        if manager == "kubecontrol":
            self._note("kubecontrol: measured on an unmodified Kubernetes")
        if options["custom_scheduling"]:
            scheduler = "custom_scheduling (a scheduler of its own) is not part of this version"
            self._cannot_run(("software", "manager"), scheduler)
        if "runtime" in options and options["runtime"] != "runc":
            self._cannot_run(
                ("software", "manager"),
                f"runtime {options['runtime']} (Kata containers) is not part of this version",
            )
        if manager == "kube_kata" and "runtime_filesystem" not in options:
            self._note("runtime_filesystem is not set: kata-fc has devmapper only")

    def _execution_model(self) -> None:
        manager = self._document.get(("software", "manager"))
        how = "process" if manager in {None, "none"} else "container"
        self._fill(("software", "execution_model"), how, "resource_manager")

    def _benchmark(self) -> None:
        options = self.options
        application = options.application
        if not options.runs_application:
            if "application" in options:
                self._note("application: ignored, resource_manager_only is set")
            return
        self._copy(("benchmark", "application"), "application")
        self._copy(("benchmark", "workers_per_machine"), "applications_per_worker")
        self._copy(("benchmark", "worker_cpu"), "application_worker_cpu")
        self._copy(("benchmark", "worker_memory"), "application_worker_memory", "GiB")
        if options.has_tier("endpoint"):
            self._copy(("benchmark", "endpoint_cpu"), "application_endpoint_cpu")
            self._copy(("benchmark", "endpoint_memory"), "application_endpoint_memory", "GiB")
        self._copy(("benchmark", "frequency"), "frequency", "Hz")
        self._copy(("benchmark", "duration"), "duration", "s")
        self._set(("benchmark", "warmup"), "0 s")
        if application is None:
            return
        own = ("benchmark", application)
        if application in _SLEEPING:
            self._copy((*own, "sleep_time"), "sleep_time", "s")
        if application == "stress":
            self._copy((*own, "timeout"), "stress_app_timeout", "s")
        if application != "image_classification":
            self._copy((*own, "deployment"), "kube_deployment")
        if options.manager == "kube_kata" and "runtime" in options:
            self._copy((*own, "runtime"), "runtime")
            file_system = options["runtime_filesystem"] or "devmapper"
            self._set((*own, "runtime_filesystem"), file_system, "runtime_filesystem")

    def _places(self) -> None:
        """Set which tiers carry workers and endpoints, and what each of them may use.

        In 1.x that is always a part of their machine.
        """
        if not self.options.runs_application:
            return
        found = self._document.get(("tiers",))
        tiers = [
            name
            for name, table in (found.items() if isinstance(found, dict) else ())
            if isinstance(table, dict) and table.get("machines") != 0
        ]
        workers = next((tier for tier in ("edge", "cloud") if tier in tiers), "endpoint")
        self._fill(("benchmark", "workers"), workers, "resource_manager")
        endpoints = "endpoint" if "endpoint" in tiers else ""
        self._fill(("benchmark", "endpoints"), endpoints, "endpoint_nodes")
        self._share("worker", self._document.get(("benchmark", "workers")), 0.5)
        self._share("endpoint", self._document.get(("benchmark", "endpoints")), 0.0)

    def _share(self, side: str, tier: object, spare: float) -> None:
        # An endpoint that is its own worker has what an endpoint has.
        if side == "worker" and tier == self._document.get(("benchmark", "endpoints")):
            return
        cores = self._document.get(("tiers", str(tier), "cores"))
        if isinstance(cores, int) and cores > spare:
            self._fill(("benchmark", f"{side}_cpu"), float(cores) - spare)
        try:
            memory = units.SIZE.read(self._document.get(("tiers", str(tier), "memory"))) / 2**30
        except ValueError:
            return
        if memory > spare:
            self._fill(("benchmark", f"{side}_memory"), f"{_plain(memory - spare)} GiB")

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
                if name in options:
                    self._note(f"{name}: not used {beside}")


def _problems(faults: Iterable[Fault]) -> Iterator[Problem]:
    """Yield the problems of faults; comments behind values have one cause, and are told once."""
    behind = [each.problem for each in faults if each.comment]
    yield from (each.problem for each in faults if not each.comment)
    if len(behind) == 1:
        yield from behind
    elif behind:
        first, *rest = sorted(behind)
        lines = ", ".join(str(each.line) for each in rest[:_FEW])
        more = f"{len(rest)} more line{'s' if len(rest) > 1 else ''}"
        message = (
            f"comments behind values are a part of them, here and in {more} "
            f"({lines}{', …' if len(rest) > _FEW else ''}): put comments on lines of their own"
        )
        yield Problem(first.file, first.line, message)


_FEW = 5


def _without_use(options: _Options) -> dict[str, str]:
    """Options of [infrastructure] that mean nothing beside others, and beside what."""
    reasons: dict[str, str] = {}
    if not options["network_emulation"] and not options.is_bad("network_emulation"):
        names = [name for name, (path, *_) in KEYS.items() if path[0] == "network"]
        reasons |= dict.fromkeys(names, "without network_emulation")
        reasons.pop("network_emulation")
    for tier in TIERS:
        if not options.has_tier(tier):
            names = [name for name, (path, *_) in KEYS.items() if path[:2] == ("tiers", tier)]
            reasons |= dict.fromkeys(names, f"without {tier} machines")
            reasons.pop(f"{tier}_nodes")
    return reasons


def _beside(options: _Options) -> dict[str, str]:
    """Options of a benchmark that mean nothing beside others, and beside what."""
    manager, application = options.manager, options.application
    reasons: dict[str, str] = {}
    if manager in {"none", "mist"}:
        reasons["kube_version"] = f"with {manager}"
        # Any other than runc is told of as one that cannot be had.
        if options["runtime"] in {"runc", None}:
            reasons["runtime"] = f"with {manager}"
    if manager not in {"kube_kata", None}:
        reasons["runtime_filesystem"] = f"with {manager}"
    if not options.has_tier("endpoint"):
        reasons |= dict.fromkeys(_OF_ENDPOINTS, "without endpoints")
    if application is not None:
        if application not in _SLEEPING:
            reasons["sleep_time"] = f"with {application}"
        if application != "stress":
            reasons["stress_app_timeout"] = f"with {application}"
        if application == "image_classification":
            reasons["kube_deployment"] = f"with {application}"
    elif not options.runs_application:
        reasons |= dict.fromkeys((*_OF_APPLICATIONS, *_OF_ENDPOINTS), "with resource_manager_only")
    return {name: reasons[name] for name in BENCHMARK if name in reasons}


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
    **{
        f"{tier}_location": "not used; it goes with the recorded traces of radio links, which this "
        "version does not have"
        for tier in ("cloud", "edge")
    },
    "aws_key": "not used; machines get a key of their own",
    "docker_pull": "not used; images come from the cache, else from their sources",
    "cache_worker": "not used; images are on every machine before a benchmark begins",
}
