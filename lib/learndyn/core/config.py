"""Frozen, validated configurations: a bad value fails before any work starts, in one sentence.

Values are taken as they are meant: `"3"` and `3.0` are not whole numbers, `True` is not a number. An int is
accepted where a float is wanted; NumPy scalars, lists, ranges and arrays become Python numbers and tuples.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import json
import reprlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, TypeVar

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError, model_validator

from learndyn.core.errors import PlainError

# A type variable and not `typing.Self`, which beartype cannot check on the methods of an undecorated class.
ConfigT = TypeVar("ConfigT", bound="Config")
_Item = TypeVar("_Item")

#: A tuple field that also takes one value: `weight_decay: OneOrMany[float] = 1e-4` holds `(1e-4,)`.
OneOrMany = Annotated[
    tuple[_Item, ...], BeforeValidator(lambda value: value if isinstance(value, tuple) else (value,))
]

_WANTED = {
    "bool_type": "must be True or False",
    "dict_type": "must be a mapping",
    "float_type": "must be a number",
    "int_type": "must be a whole number",
    "missing": "is required and was not given",
    "string_type": "must be text",
    "tuple_type": "must be a list of values",
}


class ConfigError(PlainError):
    """A configuration was refused; the message names the field, the value and what is allowed."""


class Config(BaseModel):
    """Base of every configuration: frozen, hashable, without unknown fields and without silent conversions.

    Use tuples, not lists, for fields of several values. Every way of building one raises `ConfigError`.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        allow_inf_nan=False,
        validate_default=True,
        protected_namespaces=(),
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(_sentence(type(self), error)) from None

    @model_validator(mode="before")
    @classmethod
    def _plain_values(cls, values: Any) -> Any:
        return {name: _plain(value) for name, value in values.items()} if isinstance(values, dict) else values

    @classmethod
    def parse(cls: type[ConfigT], values: object, where: str = "") -> ConfigT:
        """Validate a mapping of names to values (say, a YAML file); `where` names its origin in the message.

        Raises:
            ConfigError: such as `TrainConfig.epochs = 'ten': must be a whole number (in sweeps/a.yaml)`.
        """
        origin = f" (in {where})" if where else ""
        if not isinstance(values, Mapping):
            raise ConfigError(f"{cls.__name__} needs names with values, not {_short(values)}{origin}")
        try:
            return cls(**{str(name): value for name, value in values.items()})
        except ConfigError as error:
            raise ConfigError(f"{error}{origin}") from None

    @classmethod
    def from_notebook(cls: type[ConfigT], namespace: Mapping[str, Any], **renames: str) -> ConfigT:
        """Build the config from a notebook's `globals()`, in the cell after the parameters cell.

        A field is taken from the variable of its own name, or from the one that `renames` gives for it
        (`hidden_size="q"`); a field with no such variable keeps its default. Other variables do not matter,
        with one exception: papermill checks no names, so what its last injected cell assigned must be fields.

        Raises:
            ConfigError: an unknown parameter, a refused value, a renamed variable that is not there.
        """
        for field, name in renames.items():
            if field not in cls.model_fields:
                raise ConfigError(f"{cls.__name__} has no field {field!r}; {_takes(cls)}")
            if name not in namespace:
                raise ConfigError(
                    f"{name!r} is not defined in this notebook; {cls.__name__}.{field} is read from it"
                )
        names = {renames.get(field, field): field for field in cls.model_fields}
        for injected in _injected_names(namespace):
            if injected not in names:
                close = _did_you_mean(injected, names)
                raise ConfigError(
                    f"unknown parameter {injected!r}{close}; this notebook takes {', '.join(names)}"
                )
        return cls(**{field: namespace[name] for name, field in names.items() if name in namespace})

    def replace(self: ConfigT, **changes: Any) -> ConfigT:
        """A copy with some fields changed, validated again (pydantic's `model_copy` does not)."""
        return type(self)(**{name: getattr(self, name) for name in type(self).model_fields} | changes)

    def to_json(self) -> str:
        """The config as one line of strict JSON with sorted names, the same text for equal configs."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, allow_nan=False)

    def fingerprint(self) -> str:
        """SHA-256 of `to_json()`, in hexadecimal."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()


EnsembleT = TypeVar("EnsembleT", bound="EnsembleConfig")


class EnsembleConfig(Config):
    """Base of configurations of several runs: fields named in ``PER_RUN`` have one value for each run.

    Such a field (`OneOrMany`) takes one value, for all runs, or one for each run; it always holds a tuple of
    length `runs`.
    """

    PER_RUN: ClassVar[tuple[str, ...]] = ()

    @model_validator(mode="before")
    @classmethod
    def _broadcast(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        given = {name: _plain(values.get(name, cls.model_fields[name].default)) for name in cls.PER_RUN}
        lists = {name: value if isinstance(value, tuple) else (value,) for name, value in given.items()}
        runs = max(len(value) for value in lists.values())
        return values | {name: value * runs if len(value) == 1 else value for name, value in lists.items()}

    @model_validator(mode="after")
    def _one_value_for_each_run(self: EnsembleT) -> EnsembleT:
        for name in self.PER_RUN:
            length = len(getattr(self, name))
            if length != self.runs:
                raise ValueError(
                    f"{name} has {length} values for {self.runs} runs; give one value, or one for each run"
                )
        return self

    @property
    def runs(self) -> int:
        """Length of the run axis."""
        return max(len(getattr(self, name)) for name in self.PER_RUN)

    def select(self: EnsembleT, runs: Sequence[int]) -> EnsembleT:
        """The same configuration with only these runs."""
        return self.replace(**{name: tuple(getattr(self, name)[r] for r in runs) for name in self.PER_RUN})


def _plain(value: Any) -> Any:
    """NumPy scalars to Python numbers; lists, ranges and arrays to tuples, at any depth."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple | range):
        return tuple(_plain(item) for item in value)
    return value


def _sentence(config: type[BaseModel], error: ValidationError) -> str:
    """One sentence for the first refused field, with the number of further ones."""
    problems = error.errors(include_url=False)
    first = problems[0]
    others = len({problem["loc"][:1] for problem in problems} - {first["loc"][:1]})
    more = f" (and {others} more)" if others else ""
    return _describe(config, first, problems) + more


def _describe(config: type[BaseModel], problem: Any, problems: Any) -> str:
    kind, location = problem["type"], problem["loc"]
    if kind == "extra_forbidden":
        name = str(location[0])
        return f"unknown parameter {name!r}{_did_you_mean(name, config.model_fields)}; {_takes(config)}"
    # Each member of a union (`int | tuple[int, ...]`) has its own complaint; all say what is allowed.
    same = [p for p in problems if p["loc"][:1] == location[:1] and p["input"] is problem["input"]]
    wanted = " or ".join(dict.fromkeys(_wanted(p) for p in same)).replace(" or must be ", " or ")
    if not location:
        return f"{config.__name__}: {wanted}"
    indices = "".join(f"[{part}]" for part in location[1:] if isinstance(part, int))
    field = f"{config.__name__}.{location[0]}{indices}"
    return f"{field} {wanted}" if kind == "missing" else f"{field} = {_short(problem['input'])}: {wanted}"


def _wanted(problem: Any) -> str:
    if problem["type"] in _WANTED:
        return _WANTED[problem["type"]]
    message = problem["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return " ".join(message.replace("Input should", "must").split())


def _takes(config: type[BaseModel]) -> str:
    return f"{config.__name__} takes {', '.join(config.model_fields)}"


def _did_you_mean(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _short(value: Any) -> str:
    shortener = reprlib.Repr()
    shortener.maxstring = shortener.maxother = 60
    text = " ".join(shortener.repr(value).split())
    return text if len(text) <= 80 else text[:79] + "…"


def _injected_names(namespace: Mapping[str, Any]) -> list[str]:
    """The names that papermill's last injected cell assigned, found in IPython's list of run cells.

    Such a cell begins with the line `# Parameters` and holds nothing but assignments of plain values. Only
    the last one counts: a cell that was corrected and run again is not blamed for what it said before.
    """
    cells = namespace.get("In")
    if not isinstance(cells, list):
        return []
    for cell in reversed(cells):
        if not isinstance(cell, str) or cell.split("\n", 1)[0].strip() != "# Parameters":
            continue
        names = _assigned_constants(cell)
        if names is not None:
            return names
    return []


def _assigned_constants(source: str) -> list[str] | None:
    """Names in a cell made of `name = constant` lines only; None for any other cell."""
    try:
        statements = ast.parse(source).body
    except SyntaxError:
        return None
    names = []
    for statement in statements:
        if not (isinstance(statement, ast.Assign) and len(statement.targets) == 1):
            return None
        target = statement.targets[0]
        if not isinstance(target, ast.Name) or not _is_constant(statement.value):
            return None
        names.append(target.id)
    return names


def _is_constant(value: ast.expr) -> bool:
    """Literals, and `float('nan')` or `float('inf')`, which is how papermill writes those."""
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id == "float" and not value.keywords
    try:
        ast.literal_eval(value)
    except ValueError:
        return False
    return True
