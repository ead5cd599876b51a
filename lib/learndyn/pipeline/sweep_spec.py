"""What a sweep is: a YAML file that names a trainer and a grid, checked as a whole before any work starts.

The axes of a grid are of two kinds. *Shape* axes (modulus, width, activation, …) change the size of the
arrays, so each of their combinations is trained on its own; *run* axes (seed, weight decay, learning rate)
are per-run scalars, so all their combinations train together as one ensemble. One ensemble (or a slice of
it, see ``max_runs_per_job``) is one *group*: one job and one file, named after a hash of everything that
decides its content.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from pydantic import Field

from learndyn.core.config import Config, ConfigError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
TRAINER_ARGUMENTS = ("device", "checkpoint", "checkpoint_every")


class Grid(Config):
    """Axes of a sweep: parameter name → list of its values; one that is absent has none."""

    shape: dict[str, Any] = Field(default_factory=dict)
    run: dict[str, Any] = Field(default_factory=dict)


class SweepSpec(Config):
    """A sweep file. Dotted names say which code trains, measures and condenses.

    ``trainer`` is a module with ``TrainConfig`` and ``train``; ``measures`` an optional function of a train
    config that gives the trainer's ``measures``; ``reduce`` an optional function that condenses a group's
    dataset before it is stored.
    """

    name: str
    trainer: str
    measures: str | None = None
    reduce: str | None = None
    base: dict[str, Any] = Field(default_factory=dict)
    grid: Grid
    max_runs_per_job: int | None = None
    checkpoint_every: int = 500


@dataclass(frozen=True)
class Group:
    """Runs of equal shape that train together: one job, one file."""

    shape: dict[str, Any]
    runs: tuple[dict[str, Any], ...]
    config: Config
    key: str

    @property
    def label(self) -> str:
        """The group in words, for messages."""
        shape = ", ".join(f"{name}={_text(value)}" for name, value in self.shape.items()) or "the only shape"
        first, last = self.runs[0], self.runs[-1]
        spans = ", ".join(
            f"{name} {_text(first[name])}" + ("" if first[name] == last[name] else f" … {_text(last[name])}")
            for name in first
        )
        return f"{shape} ({len(self.runs)} run{'s' * (len(self.runs) != 1)}{': ' if spans else ''}{spans})"


class _Loader(yaml.SafeLoader):
    """YAML as its readers expect it: ``1e-5`` is a number (YAML 1.1 reads a string), a key given twice is
    an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        twice = [key for key, count in Counter(keys).items() if count > 1]
        if twice:
            raise ConfigError(f"line {node.start_mark.line + 1}: '{twice[0]}' is given twice")
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def load_spec(path: Path) -> SweepSpec:
    """Read and check a sweep file, down to the train config of every group.

    Raises:
        ConfigError: one sentence that names the file, the field, the value and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"cannot read the sweep file {path}: {reason}") from None
    try:
        # A subclass of SafeLoader: only plain values are ever built.
        values = yaml.load(text, Loader=_Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        raise ConfigError(f"{path}, line {line}: this is not YAML ({error.problem})") from None
    except (yaml.YAMLError, ConfigError) as error:
        raise ConfigError(f"{path}, {error}") from None
    if not isinstance(values, Mapping):
        raise ConfigError(
            f"{path}: a sweep file is a mapping with the keys {', '.join(SweepSpec.model_fields)}"
        )
    try:
        if "grid" in values:
            values = {**values, "grid": Grid.parse(values["grid"])}
        spec = SweepSpec.parse(values)
        check(spec)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return spec


def check(spec: SweepSpec) -> None:
    """Check what the field types cannot say: names, axes, the code named, and each group's train config.

    Raises:
        ConfigError: one sentence.
    """
    if not NAME.fullmatch(spec.name):
        raise ConfigError(f"name = {spec.name!r}: letters, digits, '_', '-' and '.' are allowed")
    for field in ("max_runs_per_job", "checkpoint_every"):
        value = getattr(spec, field)
        if value is not None and value < 1:
            raise ConfigError(f"{field} = {value}: a whole number from 1 up is allowed")
    for function in (spec.measures, spec.reduce):
        if function is not None:
            resolve(function)
    fields = _config_class(spec).model_fields
    seen: dict[str, str] = {}
    places = (("base", spec.base), ("grid.shape", spec.grid.shape), ("grid.run", spec.grid.run))
    for place, values in places:
        for name in values:
            if name not in fields:
                raise ConfigError(
                    f"{place}: unknown parameter '{name}'; {spec.trainer} takes {', '.join(fields)}"
                )
            if name in seen:
                raise ConfigError(f"'{name}' is given both in {seen[name]} and in {place}")
            seen[name] = place
    for place, axes in places[1:]:
        for name, values in axes.items():
            _check_axis(f"{place}.{name}", values)
    groups(spec)


def _check_axis(place: str, values: Any) -> None:
    if not isinstance(values, list) or not values:
        raise ConfigError(f"{place} = {values!r}: an axis is a list of at least one value")
    counts = Counter(json.dumps(value, default=repr) for value in values)
    twice = [value for value, count in counts.items() if count > 1]
    if twice:
        raise ConfigError(f"{place}: the value {twice[0]} is listed twice")


def groups(spec: SweepSpec) -> list[Group]:
    """All groups of a sweep, in the order of its axes (the last axis of each kind varies fastest)."""
    config_class = _config_class(spec)
    runs = list(_product(spec.grid.run))
    size = spec.max_runs_per_job or len(runs)
    result = []
    for shape in _product(spec.grid.shape):
        for start in range(0, len(runs), size):
            part = tuple(runs[start : start + size])
            axes = {name: tuple(run[name] for run in part) for name in spec.grid.run}
            where = ", ".join(f"{name}={_text(value)}" for name, value in shape.items())
            config = config_class.parse({**spec.base, **shape, **axes}, where=where)
            result.append(Group(shape, part, config, _key(spec, config)))
    return result


def _product(axes: Mapping[str, Sequence[Any]]) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*axes.values()):
        yield dict(zip(axes, values, strict=True))


def _key(spec: SweepSpec, config: Config) -> str:
    """Hash of what decides a group's content. How often it is checkpointed or how the sweep is called does
    not."""
    content = {
        "trainer": spec.trainer,
        "measures": spec.measures,
        "reduce": spec.reduce,
        "config": config.model_dump(mode="json"),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def sweep_key(spec: SweepSpec) -> str:
    """Hash of a whole sweep: which groups, in which order, under which name."""
    content = [spec.name, *(group.key for group in groups(spec))]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]


def run_count(spec: SweepSpec) -> int:
    """Number of runs of the whole grid."""
    return math.prod(len(values) for values in (*spec.grid.shape.values(), *spec.grid.run.values()))


def trainer(spec: SweepSpec) -> ModuleType:
    """The module that trains.

    Raises:
        ConfigError: there is no such module, or it has no ``TrainConfig`` or no ``train`` with the
            arguments that a job needs.
    """
    module = _import(spec.trainer)
    train = getattr(module, "train", None)
    config_class = getattr(module, "TrainConfig", None)
    if not callable(train) or not (inspect.isclass(config_class) and issubclass(config_class, Config)):
        raise ConfigError(f"trainer = {spec.trainer!r}: the module has no TrainConfig and train")
    wanted = (*TRAINER_ARGUMENTS, *(("measures",) if spec.measures else ()))
    missing = [name for name in wanted if name not in inspect.signature(train).parameters]
    if missing:
        raise ConfigError(f"trainer = {spec.trainer!r}: its function train takes no argument '{missing[0]}'")
    return module


def _config_class(spec: SweepSpec) -> type[Config]:
    config_class: type[Config] = trainer(spec).TrainConfig
    return config_class


def resolve(dotted: str) -> Callable[..., Any]:
    """The function that a dotted name means, e.g. ``learndyn.cogo_li2.sweep_summary.summarise_sweep``."""
    module, _, name = dotted.rpartition(".")
    function = getattr(_import(module), name, None) if module else None
    if not callable(function):
        raise ConfigError(
            f"'{dotted}' is not a function; give the dotted name of one, as in package.module.function"
        )
    result: Callable[..., Any] = function
    return result


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"cannot import '{name}': {error}") from None


def _text(value: Any) -> str:
    """A parameter value as a label or a coordinate: lists become '4x4', numbers stay readable."""
    if isinstance(value, list | tuple):
        return "x".join(_text(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def shape_coordinate(value: Any) -> float | int | str:
    """A shape parameter's value as netCDF can hold it: numbers as they are, everything else as text
    ('4x4')."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) else _text(value)
