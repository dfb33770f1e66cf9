"""From a document to an experiment: every rule is applied, and all problems come at once."""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from continuum import plugins
from continuum.errors import InvalidExperiment, Problem
from continuum.experiment import arrivals, fields, secret_files
from continuum.experiment.document import TOO_DEEP, Document, KeyPath, Source, dotted, holds, shown
from continuum.experiment.model import (
    HOST_PATTERN,
    NAME_PATTERN,
    VERSION_PATTERN,
    Benchmark,
    Experiment,
    problems_over_fields,
)
from continuum.experiment.units import Quantity
from continuum.secret import Masked, Secret, sealed

if TYPE_CHECKING:
    from continuum.benchmark.contract import Application

DEPTH_LIMIT = 16
"""Of tables and lists inside each other."""

_MANY = 1000
"""Problems; with more of them, no one asks for rules over several fields as well."""

_ROUNDS = 5
"""How often what is wrong is taken out, so that rules over several fields see the rest."""

AUTOMATIC = "auto"
"""As `network.emulator`: the first one that the host can carry."""

_NAMED_APPLICATION: KeyPath = ("benchmark", "application")

_ARRIVALS_FILE: KeyPath = ("benchmark", "arrivals", "file")

_NAMED_PLUGINS: tuple[tuple[KeyPath, str], ...] = (
    (("infrastructure", "provider"), "providers"),
    (("network", "emulator"), "emulators"),
    (("software", "manager"), "managers"),
    (("software", "execution_model"), "execution_models"),
    (_NAMED_APPLICATION, "applications"),
)


def build(document: Document) -> Experiment:
    """The experiment that a document says; notes that arise are added to it.

    Raises:
        InvalidExperiment: with every problem that was found.
    """
    _refuse_depth(document)
    problems = secret_files.read_into(document)
    checker = _Checker(document)
    checker.problems += problems
    experiment = checker.run()
    if checker.problems:
        raise InvalidExperiment(tuple(dict.fromkeys(checker.problems)))
    assert experiment is not None
    return experiment


def _refuse_depth(document: Document) -> None:
    """Refuse what no experiment needs, before anything walks through it recursively."""
    level: list[tuple[KeyPath, Any]] = [((), document.values)]
    for _ in range(DEPTH_LIMIT):
        level = [
            ((*path, key), inner)
            for path, value in level
            for key, inner in (value.items() if isinstance(value, dict) else enumerate(value))
            if isinstance(inner, (dict, list))
        ]
    if level:
        source = document.source(level[0][0])
        raise InvalidExperiment((source.problem(TOO_DEEP),))


def not_runnable(document: Document, experiment: Experiment) -> tuple[str, ...]:
    """Why a valid experiment cannot be run by this version, one sentence for each reason."""
    named = [("providers", experiment.infrastructure.provider)]
    if experiment.software is not None:
        named.append(("managers", experiment.software.manager))
        named.append(("execution_models", experiment.software.execution_model))
        named += [("services", name) for name in experiment.software.services]
    if experiment.benchmark is not None:
        named.append(("applications", experiment.benchmark.application))
    found = []
    for kind, name in named:
        if _only_foreseen(kind, name):
            meaning = plugins.foreseen(kind, name)
            found.append(f'{_singular(kind)} "{name}" ({meaning}) is not part of this version')
    found += [each.text for each in document.reasons if document.get(each.path) == each.value]
    return tuple(dict.fromkeys(found))


def _only_foreseen(kind: str, name: str) -> bool:
    # The look at other packages' entry points is slow: it comes last.
    return plugins.foreseen(kind, name) is not None and name not in plugins.names(kind)


def _singular(kind: str) -> str:
    return kind.removesuffix("s").replace("_", " ")


class _Checker:
    def __init__(self, document: Document) -> None:
        self.document = document
        self.problems: list[Problem] = []
        self.values: dict[str, Any] = copy.deepcopy(document.values)
        self.settings: list[tuple[KeyPath, Any]] = []
        self.masked = Masked()
        self.masked.add(secret_files.texts(document))

    def blame(
        self, path: KeyPath, message: str, hint: str = "", *, at: KeyPath | None = None
    ) -> None:
        """A problem at a key, which the message names; `at` another one if that is told."""
        message = f"{shown_path(path)}: {message}" if path else message
        message = self.masked(message)
        source = self.document.source(path if at is None else at)
        self.problems.append(source.problem(message, hint))

    def run(self) -> Experiment | None:
        self._names()
        for table, (chooser, kind) in fields.PLUGIN_TABLES.items():
            self._settings(table, chooser, kind)
        self._paths_of_hosts()
        self._path_of_arrivals()
        try:
            experiment = Experiment.model_validate(self.values)
        except ValidationError as error:
            self._translate(error)
            self._rules_over_the_rest(error)
            return None
        broken = problems_over_fields(experiment)
        for own, settings in self.settings:
            chooser, kind = fields.PLUGIN_TABLES[str(own[0])]
            with self._plugin(kind, str(own[1]), (own[0], chooser)):
                broken += [
                    ((*own, *path), message) for path, message in settings.problems(experiment)
                ]
        for path, message in broken:
            self.blame(path, message)
        if experiment.benchmark is not None and not broken:
            benchmark = experiment.benchmark
            names = experiment.machine_names(benchmark.endpoints) if benchmark.endpoints else ()
            self._trace(benchmark, names)
        if not broken:
            self._fits(experiment)
        return experiment

    @contextmanager
    def _plugin(self, kind: str, name: str, chosen: KeyPath) -> Iterator[None]:
        """Take a defect in another package's code for a problem, on the line that chose it."""
        try:
            yield
        except Exception as error:
            if name in plugins.built_in(kind):
                raise
            cannot = f'"{name}" cannot judge this experiment: {type(error).__name__}'
            self.blame(chosen, f"{cannot}: {shown(error, 200)}")

    def _fits(self, experiment: Experiment) -> None:
        """Ask the application, which relies on all other rules."""
        benchmark = experiment.benchmark
        # With settings that are wrong it cannot be made; they are told already.
        checked = [path for path, _ in self.settings]
        if benchmark is None or ("benchmark", benchmark.application) not in checked:
            return
        kind: type[Application] = plugins.load("applications", benchmark.application)
        misfit = None
        # As the experiment has them: paths in them have been made whole.
        settings = kind.settings_type.model_validate(benchmark.settings)
        with self._plugin("applications", benchmark.application, _NAMED_APPLICATION):
            misfit = kind(settings).misfit(experiment)
        if misfit is None:
            return
        source = self.document.source(misfit.path)
        if source == Source(self.document.file):  # Nothing is written there, nor around it.
            source = self.document.source(_NAMED_APPLICATION)
        fit = f'application "{kind.name}" does not fit this experiment: {misfit.reason}'
        problem = source.problem(f"{shown_path(misfit.path)}: {fit}", misfit.hint)
        if misfit.lacking:
            self.document.misfit = problem
        else:
            self.problems.append(problem)

    # -- plug-ins --------------------------------------------------------------------------------

    def _names(self) -> None:
        """Names of plug-ins that do not exist."""
        named = [(path, kind, self.document.get(path)) for path, kind in _NAMED_PLUGINS]
        services = self.document.get(("software", "services"))
        if isinstance(services, list):
            named += [
                (("software", "services", index), "services", name)
                for index, name in enumerate(services)
            ]
        for path, kind, name in named:
            if isinstance(name, str) and (kind, name) != ("emulators", AUTOMATIC):
                problem = plugins.problem_with(kind, name)
                if problem is not None:
                    message, _, hint = problem.partition("; ")
                    self.blame(path, message, hint)

    def _settings(self, table: str, chooser: str, kind: str) -> None:
        """Move the chosen plug-in's own table to `settings`, and have the plug-in check it."""
        values = self.values.get(table)
        if values is None and table == "infrastructure":
            values = {}
        if not isinstance(values, dict):
            return
        known = fields.keys(_model_of(table))
        chosen = values.get(chooser, _default_of(table, chooser))
        for key in [key for key in values if key not in known]:
            inner = values.pop(key)
            path = (table, key)
            if key == chosen and isinstance(inner, dict):
                values["settings"] = inner
            elif key == chosen:
                self.blame(path, f"must be a table, as [{table}.{key}]")
            elif isinstance(inner, dict) and plugins.problem_with(kind, key) is None:
                self.document.notes.append(
                    f'[{table}.{key}] is not used: the {_singular(kind)} is "{shown(chosen)}"'
                )
            elif isinstance(inner, dict):
                hint = nearest(key, plugins.names(kind))
                hint = hint or f"a plug-in's table is called like the {_singular(kind)}"
                self.blame(path, "unknown table", hint)
            else:
                self._unknown_key(path, known)
        if isinstance(chosen, str) and plugins.problem_with(kind, chosen) is None:
            self._check_settings(table, kind, chosen, values.get("settings", {}))

    def _check_settings(self, table: str, kind: str, name: str, settings: dict[str, Any]) -> None:
        if _only_foreseen(kind, name):
            return
        try:
            settings_type: Any = plugins.load(kind, name).settings_type
        except (ImportError, AttributeError) as error:
            self.blame((table,), f'{_singular(kind)} "{name}" cannot be loaded: {error}')
            return
        settings_type.fill_in(settings, self.values)
        try:
            chosen = settings_type.model_validate(settings)
        except ValidationError as error:
            known = fields.keys(settings_type)
            for each in error.errors(include_url=False):
                location = _cleaned(each["loc"])
                path = (table, name, *location)
                spot = known.get(str(location[0])) if len(location) == 1 else None
                if each["type"] == "extra_forbidden":
                    self._unknown_key(path, known if len(location) == 1 else {})
                else:
                    hint = nearest(str(each["input"]), spot.choices) if spot else ""
                    self.blame(path, explain(_without_secret(each, path), spot), hint)
            return
        self.settings.append(((table, name), chosen))
        for key, each in settings.items():
            field = settings_type.model_fields.get(key)
            whole = field is not None and fields.holds_secret(field.annotation)
            settings[key] = sealed(each, (key,), whole=whole)
        for key, field in settings_type.model_fields.items():
            written = settings.get(key)
            if isinstance(written, str) and fields.core_type(field.annotation) is Path:
                settings[key] = str(self._resolved(written, (table, name, key)))

    def _paths_of_hosts(self) -> None:
        hosts = self.values.get("hosts")
        for index, host in enumerate(hosts if isinstance(hosts, list) else []):
            written = host.get("ssh_config") if isinstance(host, dict) else None
            if isinstance(written, str):
                path = ("hosts", index, "ssh_config")
                host["ssh_config"] = str(self._resolved(written, path))

    def _path_of_arrivals(self) -> None:
        benchmark = self.values.get("benchmark")
        written = benchmark.get("arrivals") if isinstance(benchmark, dict) else None
        if isinstance(written, dict) and isinstance(written.get("file"), str):
            written["file"] = str(self._resolved(written["file"], _ARRIVALS_FILE))

    def _trace(self, benchmark: Benchmark, endpoints: tuple[str, ...]) -> None:
        """Check what the file of arrivals holds, and whether it fits endpoints and load."""
        if isinstance(benchmark.arrivals, str):
            return
        path = Path(benchmark.arrivals.file)
        if not path.is_file():
            self.blame(_ARRIVALS_FILE, f'there is no file "{shown(path, 200)}"')
            return
        try:
            columns = arrivals.read_trace(path)
        except InvalidExperiment as error:
            self.problems += error.problems
            return
        if self.document.get(("benchmark", "frequency")) is not None:
            self.document.notes.append(
                "benchmark.frequency is not used: arrivals are those of a file"
            )
        if len(columns) not in {1, len(endpoints)}:
            count = f"{len(columns)} columns for {len(endpoints)} endpoints"
            self.blame(_ARRIVALS_FILE, f"{count}: give one for all, or one for each")
            return
        names = arrivals.trace_names(path)
        if len(columns) > 1 and names and names != endpoints:
            wanted = ", ".join(endpoints)
            self.blame(_ARRIVALS_FILE, f"the columns of endpoints are called, in order, {wanted}")
        seconds = benchmark.warmup + benchmark.duration
        for number in range(len(columns)):
            times = arrivals.trace_ns(str(path), number, seconds)
            if not times or times[-1] < benchmark.warmup * 1e9:
                where = f"column {number + 1}: " if len(columns) > 1 else ""
                span = f"{benchmark.warmup:g} to {seconds:g} s"
                self.blame(_ARRIVALS_FILE, f"{where}no request is due in the measured time, {span}")
            elif len(times) < len(columns[number]):
                late = len(columns[number]) - len(times)
                self.document.notes.append(
                    f"{path.name}: {late} of {len(columns[number])} times are at or after the end "
                    f"of the load, {seconds:g} s, and not used"
                )

    def _resolved(self, written: str, path: KeyPath) -> Path:
        return self.document.resolved(written, path)

    # -- fields ----------------------------------------------------------------------------------

    def _unknown_key(self, path: KeyPath, known: Iterable[str]) -> None:
        key = str(path[-1])
        hint = nearest(key, known)
        if not hint:
            homes = [
                f"in {_header(table)}" if table else "at the top of the file"
                for table, model in fields.tables()
                if key in fields.keys(model) and table != path[:-1]
            ]
            hint = f"it belongs {' or '.join(homes)}" if homes else ""
        if not hint and known:
            hint = f"known here: {', '.join(known)}"
        self.blame(path, "unknown key", hint)

    def _translate(self, error: ValidationError) -> None:
        for each in error.errors(include_url=False):
            path = _cleaned(each["loc"])
            if each["type"] == "extra_forbidden":
                parent = fields.spot(path[:-1])
                table = parent.table if parent else None
                self._unknown_key(path, fields.keys(table) if table else {})
            elif each["loc"][-1] == "[key]":
                # The message names the table around it, but stands where the name does.
                message = f'"{shown(path[-1])}" cannot be a name; {_NAME_RULE}'
                self.blame(path[:-1], message, at=path)
            else:
                spot = fields.spot(path)
                hint = nearest(str(each["input"]), spot.choices) if spot else ""
                self.blame(path, explain(_without_secret(each, path), spot), hint)

    def _rules_over_the_rest(self, error: ValidationError) -> None:
        """Rules over several fields, on what is left without the fields that are wrong.

        A rule counts only when it does not speak of what was taken out.
        """
        if error.error_count() > _MANY:
            return
        rest = _Rest(self.values)
        for _ in range(_ROUNDS):
            rest.remove([_cleaned(each["loc"]) for each in error.errors(include_url=False)])
            try:
                experiment = Experiment.model_validate(self.values)
            except ValidationError as next_error:
                error = next_error
            else:
                break
        else:
            return
        for path, message in problems_over_fields(experiment):
            original = rest.original(path)
            if rest.can_judge(original):
                self.blame(original, message)


class _Rest:
    """Values from which wrong ones are taken out, step by step."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values
        self._removed: set[KeyPath] = set()
        self._above_removed: set[KeyPath] = set()
        self._tiers_are_wrong = False
        network = values.get("network")
        links = network.get("links") if isinstance(network, dict) else None
        self._links = list(range(len(links))) if isinstance(links, list) else []
        """For each link that is left, its position in the file."""

    def original(self, path: KeyPath) -> KeyPath:
        """The path in the file of a path in what is left."""
        if path[:2] == ("network", "links") and len(path) > 2 and isinstance(path[2], int):
            return (*path[:2], self._links[path[2]], *path[3:])
        return path

    def can_judge(self, path: KeyPath) -> bool:
        """Whether a rule that blames this key speaks of nothing that was taken out."""
        around = any(path[:end] in self._removed for end in range(1, len(path) + 1))
        return not (around or path in self._above_removed or self._tiers_are_wrong)

    def remove(self, paths: list[KeyPath]) -> None:
        """Take out values; where there is none, what should have held it."""
        whole = {
            path[:3] if path[:2] == ("network", "links") and path[3:4] in _ENDS else path
            for path in paths
        }
        outermost = [
            path for path in whole if not any(path[:end] in whole for end in range(len(path)))
        ]
        # From the last link to the first, so that positions stay right on the way.
        for path in sorted(outermost, key=lambda path: [str(part).zfill(9) for part in path])[::-1]:
            gone = self.original(path)
            self._removed.add(gone)
            self._above_removed.update(gone[:end] for end in range(1, len(gone)))
            # Other parts of the experiment name tiers and their machines.
            if gone[0] == "tiers" and (len(gone) < 3 or gone[2] == "machines"):
                self._tiers_are_wrong = True
            self._remove(path)

    def _remove(self, path: KeyPath) -> None:
        if path == ("name",):
            self._values["name"] = "experiment"
            return
        holder: Any = self._values
        for position, key in enumerate(path):
            if not holds(holder, key):
                if position:
                    self._remove(path[:position])
                return
            if position < len(path) - 1:
                holder = holder[key]
                continue
            del holder[key]
            if path[:2] == ("network", "links") and isinstance(key, int):
                del self._links[key]


_ENDS = ((), ("between",), ("from",), ("to",))


def _model_of(table: str) -> type[BaseModel]:
    spot = fields.spot((table,))
    assert spot is not None
    assert spot.table is not None
    return spot.table


def _default_of(table: str, key: str) -> object:
    return _model_of(table).model_fields[key].get_default()


def _header(table: KeyPath) -> str:
    """A table's header as a file has it."""
    name = dotted(tuple(part for part in table if part != 0))
    return f"[[{name}]]" if table[-1] == 0 else f"[{name}]"


def _cleaned(location: tuple[str | int, ...]) -> KeyPath:
    """Pydantic's place of an error, without its own words."""
    return location[:-1] if location[-1:] == ("[key]",) else location


# -- words ---------------------------------------------------------------------------------------

_NAME_RULE = "lower-case letters, digits and dashes, a letter first, at most 31 characters in all"


def shown_path(path: KeyPath) -> str:
    """A path inside a message."""
    return ".".join(shown(part) for part in path[:8])


def nearest(name: str, known: Iterable[str]) -> str:
    """The nearest right name as a question; empty when nothing is near."""
    known = list(known)
    near = [
        each for each in difflib.get_close_matches(name[:60], known, n=3) if _is_near(name, each)
    ] or [each for each in known if each.lower() == name.lower()]
    return f'did you mean "{near[0]}"?' if near else ""


def _is_near(name: str, other: str) -> bool:
    """Tell whether names are near beside the words that begin and end both, as `edge_` and `_avg`."""
    one, two = re.split("[_-]", name), re.split("[_-]", other)
    while len(one) > 1 and len(two) > 1 and one[0] == two[0]:
        one, two = one[1:], two[1:]
    while len(one) > 1 and len(two) > 1 and one[-1] == two[-1]:
        one, two = one[:-1], two[:-1]
    ratio = difflib.SequenceMatcher(None, "_".join(one)[:60], "_".join(two)).ratio()
    return ratio >= _NEAR


_NEAR = 0.6
"""The ratio from which `difflib` calls words close."""


def _without_secret(error: Any, path: KeyPath) -> Any:  # noqa: ANN401  pydantic's ErrorDetails
    """The same error, which does not show what was written where it is secret."""
    if not secret_files.is_secret(path):
        return error
    context = error.get("ctx", {})
    if isinstance(error["input"], str) and error["input"] in str(context.get("error", "")):
        return {**error, "input": Secret(""), "ctx": {"error": "is not as it must be"}}
    return {**error, "input": Secret("")}


def explain(error: Any, spot: fields.Spot | None) -> str:  # noqa: ANN401  pydantic's ErrorDetails
    """One of pydantic's errors in plain words."""
    kind: str = error["type"]
    value = error["input"]
    context = error.get("ctx", {})
    if kind == "missing":
        return "is missing"
    if kind in _LIMITS:
        word, key = _LIMITS[kind]
        quantity = spot.quantity if spot else None
        return f"must be {word} {_amount(context[key], quantity)}, not {_amount(value, quantity)}"
    if kind in {"literal_error", "enum"}:
        choices = ", ".join(spot.choices) if spot else context["expected"]
        return f"{_described(value)} is not one of {choices}"
    if kind == "string_pattern_mismatch":
        pattern = context["pattern"]
        return f"{_described(value)} is not {_FORMS.get(pattern, f'of the form {pattern}')}"
    wanted = next((text for types, text in _TYPES if kind in types), None)
    if wanted is not None:
        # A text in place of a table may be what belongs in it, as a password.
        text = wanted == _A_TABLE and isinstance(value, str)
        return f"{wanted}, not {'a text' if text else _described(value)}"
    message = str(context.get("error", error["msg"]))
    return message.replace("Input should be", "must be")


_FORMS = {
    NAME_PATTERN: f"a name: {_NAME_RULE}",
    HOST_PATTERN: "of the form user@host or user@host:port",
    VERSION_PATTERN: 'a version, as "1.34" or "1.34.4"',
}

_LIMITS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
    "multiple_of": ("a multiple of", "multiple_of"),
}

_A_TABLE = "must be a table"

_TYPES: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"string_type"}), "must be a text in quotes"),
    (
        frozenset({"int_type", "int_from_float", "int_parsing", "int_parsing_size"}),
        "must be a whole number",
    ),
    (frozenset({"float_type", "float_parsing", "finite_number"}), "must be a number"),
    (frozenset({"bool_type", "bool_parsing"}), "must be true or false"),
    (frozenset({"model_type", "model_attributes_type", "dict_type"}), _A_TABLE),
    (frozenset({"tuple_type", "list_type"}), "must be a list"),
    (frozenset({"too_long", "too_short"}), "has the wrong number of elements"),
)


def _amount(value: object, quantity: Quantity | None) -> str:
    if quantity is not None and isinstance(value, (int, float)):
        return quantity.write(value)
    return f"{value:g}" if isinstance(value, float) else shown(value)


def _described(value: object) -> str:
    """What was found in place of the right thing."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, Secret)):
        return f'"{shown(value)}"'
    if isinstance(value, (int, float)):
        return f"the number {shown(value)}"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, (list, tuple)):
        return "a list"
    return "nothing" if value is None else f"{type(value).__name__} {shown(value)}"
