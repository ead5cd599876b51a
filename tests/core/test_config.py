"""Configs: what is accepted, what is refused in one sentence, and what papermill makes of it."""

import json
import textwrap
from typing import Annotated, Any, ClassVar, Literal

import nbformat
import numpy as np
import pytest
from pydantic import Field, model_validator

from learndyn.core.config import Config, ConfigError, EnsembleConfig, OneOrMany


class TrainConfig(Config):
    epochs: int = 10
    learning_rate: float = 0.01
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    test_size: Annotated[float, Field(gt=0, lt=1)] | None = 0.1
    activation: Literal["sqr", "relu"] = "sqr"
    nesterov: bool = False
    orders: tuple[int, ...] = (23,)
    seeds: OneOrMany[int] = 0
    width: int | tuple[int, ...] = 4


class PairConfig(Config):
    size: int
    half: int

    @model_validator(mode="after")
    def _half_fits(self) -> "PairConfig":
        if 2 * self.half > self.size:
            raise ValueError(f"half = {self.half} must be at most size / 2 = {self.size / 2}")
        return self


def refused(message: str, **values: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainConfig(**values)
    assert str(caught.value) == message


def test_defaults_are_validated_and_broadcast() -> None:
    assert TrainConfig().seeds == (0,)

    class Wrong(Config):
        epochs: int = "ten"  # type: ignore[assignment]

    with pytest.raises(ConfigError, match=r"^Wrong\.epochs = 'ten': must be a whole number$"):
        Wrong()


@pytest.mark.parametrize(
    ("values", "field", "expected"),
    [
        ({"learning_rate": 1}, "learning_rate", 1.0),
        ({"epochs": np.int64(3)}, "epochs", 3),
        ({"learning_rate": np.float32(0.5)}, "learning_rate", 0.5),
        ({"nesterov": np.bool_(True)}, "nesterov", True),
        ({"orders": [4, 4]}, "orders", (4, 4)),
        ({"orders": [np.int64(4)]}, "orders", (4,)),
        ({"orders": np.array([4, 5])}, "orders", (4, 5)),
        ({"seeds": range(3)}, "seeds", (0, 1, 2)),
        ({"seeds": 7}, "seeds", (7,)),
        ({"test_size": None}, "test_size", None),
        ({"width": [1, 2]}, "width", (1, 2)),
    ],
)
def test_accepted(values: dict[str, Any], field: str, expected: Any) -> None:
    got = getattr(TrainConfig(**values), field)
    assert got == expected
    assert type(got) is type(expected)


def test_refused_values_name_field_value_and_what_is_allowed() -> None:
    refused("TrainConfig.epochs = '3': must be a whole number", epochs="3")
    refused("TrainConfig.epochs = 3.0: must be a whole number", epochs=3.0)
    refused("TrainConfig.epochs = True: must be a whole number", epochs=True)
    refused("TrainConfig.epochs = True: must be a whole number", epochs=np.bool_(True))
    refused("TrainConfig.learning_rate = True: must be a number", learning_rate=True)
    refused("TrainConfig.learning_rate = '0.1': must be a number", learning_rate="0.1")
    refused("TrainConfig.learning_rate = nan: must be a finite number", learning_rate=float("nan"))
    refused("TrainConfig.nesterov = 1: must be True or False", nesterov=1)
    refused("TrainConfig.weight_decay = -1.0: must be greater than or equal to 0", weight_decay=-1.0)
    refused("TrainConfig.test_size = 1.0: must be less than 1", test_size=1.0)
    refused("TrainConfig.activation = 'tanh': must be 'sqr' or 'relu'", activation="tanh")
    refused("TrainConfig.orders = 23: must be a list of values", orders=23)
    refused("TrainConfig.orders[1] = 4.5: must be a whole number", orders=[4, 4.5])
    refused("TrainConfig.width = 'a': must be a whole number or a list of values", width="a")


def test_unknown_missing_and_many() -> None:
    fields = "epochs, learning_rate, weight_decay, test_size, activation, nesterov, orders, seeds, width"
    refused(f"unknown parameter 'epohcs' (did you mean 'epochs'?); TrainConfig takes {fields}", epohcs=3)
    refused("TrainConfig.epochs = 'a': must be a whole number (and 2 more)", epochs="a", nesterov=2, qqq=1)
    with pytest.raises(ConfigError, match=r"^PairConfig\.half is required and was not given$"):
        PairConfig(size=3)
    with pytest.raises(ConfigError, match=r"^PairConfig: half = 2 must be at most size / 2 = 1\.5$"):
        PairConfig(size=3, half=2)


def test_message_is_one_short_line_whatever_the_value() -> None:
    for value in ["x\ny" * 1000, list(range(10**4)), {"a": "b" * 5000}, np.zeros((50, 50))]:
        with pytest.raises(ConfigError) as caught:
            TrainConfig(epochs=value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 200


def test_parse_says_where() -> None:
    with pytest.raises(ConfigError, match=r"weight_decay = -1: .* equal to 0 \(in sweeps/a\.yaml\)$"):
        TrainConfig.parse({"weight_decay": -1}, where="sweeps/a.yaml")
    with pytest.raises(ConfigError, match=r"^TrainConfig needs names with values, not \[1\] \(in a\.yaml\)$"):
        TrainConfig.parse([1], where="a.yaml")
    with pytest.raises(ConfigError, match="unknown parameter '1'"):
        TrainConfig.parse({1: 2})
    assert TrainConfig.parse({"epochs": 3}) == TrainConfig(epochs=3)


def test_frozen_hashable_and_replace_validates() -> None:
    config = TrainConfig(epochs=3)
    with pytest.raises(ValueError, match="frozen"):
        config.epochs = 4  # type: ignore[misc]
    assert hash(config) == hash(TrainConfig(epochs=3))
    assert config.replace(seeds=[1, 2]) == TrainConfig(epochs=3, seeds=(1, 2))
    with pytest.raises(ConfigError, match="epochs"):
        config.replace(epochs="4")


def test_json_is_strict_sorted_and_identifies_the_config() -> None:
    config = TrainConfig(learning_rate=1, orders=[4, 4])
    values = json.loads(config.to_json())
    assert list(values) == sorted(values)
    assert TrainConfig.parse(values) == config
    assert config.fingerprint() == TrainConfig(learning_rate=np.float64(1), orders=(4, 4)).fingerprint()
    assert config.fingerprint() != config.replace(learning_rate=2.0).fingerprint()


# ---- notebooks


def test_from_notebook_takes_fields_renames_and_ignores_the_rest() -> None:
    namespace = {"epochs": 5, "q": 3, "np": np, "helper": len, "In": ["", "epochs = 5"]}
    assert TrainConfig.from_notebook(namespace, width="q") == TrainConfig(epochs=5, width=3)
    with pytest.raises(ConfigError, match=r"^'p' is not defined in this notebook; TrainConfig\.width"):
        TrainConfig.from_notebook(namespace, width="p")
    with pytest.raises(ConfigError, match=r"^TrainConfig has no field 'wdth'; TrainConfig takes epochs"):
        TrainConfig.from_notebook(namespace, wdth="q")


def test_from_notebook_refuses_what_was_injected_under_another_name() -> None:
    cells = ["", "epochs = 5", '# Parameters\nepohcs = 7\nlearning_rate = float("inf")\n', "c = ..."]
    with pytest.raises(ConfigError, match=r"^unknown parameter 'epohcs' \(did you mean 'epochs'\?\); this"):
        TrainConfig.from_notebook({"epochs": 5, "epohcs": 7, "In": cells})
    renamed = ["# Parameters\nwidth = 3"]
    with pytest.raises(ConfigError, match=r"^unknown parameter 'width'.*takes epochs, .*, q$"):
        TrainConfig.from_notebook({"q": 1, "width": 3, "In": renamed}, width="q")


@pytest.mark.parametrize(
    "cells",
    [
        ["# Parameters\nepohcs = 7", "# Parameters\nepochs = 7"],  # corrected and run again
        ["# Parameters of the torus\nangle = 7"],
        ["# Parameters\nangle = compute()"],  # the user's own cell: not only constants
        ["# Parameters\nfor a in b: pass"],
        ["# Parameters\nnot python !!"],
        ["#Parameters\nangle = 1", None],
    ],
)
def test_rerunning_cells_does_not_raise_falsely(cells: list[Any]) -> None:
    config = TrainConfig.from_notebook({"epochs": 7, "epohcs": 7, "angle": 1, "In": cells})
    assert config == TrainConfig(epochs=7)
    assert TrainConfig.from_notebook({"epochs": 7, "In": 3}) == config


PARAMETERS = "epochs = 5\nlearning_rate = 0.1"
CONFIG = """
    from learndyn.core.config import Config
    class TrainConfig(Config):
        epochs: int = 10
        learning_rate: float = 0.01
    for _ in range(2):  # a second reading, after the user has defined more names
        config = TrainConfig.from_notebook(globals())
        extra = epochz = [1, 2]
    print(config)
"""


def run_notebook(folder: Any, **parameters: Any) -> str:
    import papermill

    first = nbformat.v4.new_code_cell(PARAMETERS, metadata={"tags": ["parameters"]})
    notebook = nbformat.v4.new_notebook(cells=[first, nbformat.v4.new_code_cell(textwrap.dedent(CONFIG))])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(notebook, folder / "in.ipynb")
    done = papermill.execute_notebook(
        folder / "in.ipynb",
        folder / "out.ipynb",
        parameters=parameters,
        progress_bar=False,
        start_timeout=300,
    )
    return done.cells[-1].outputs[0].text.strip()


# The kernel client's own warnings (event loop, unclosed sockets) are not this library's.
in_papermill = pytest.mark.filterwarnings("ignore")


@in_papermill
def test_papermill_good_run(tmp_path: Any) -> None:
    assert run_notebook(tmp_path, epochs=3) == "epochs=3 learning_rate=0.1"


@in_papermill
@pytest.mark.parametrize(
    ("parameters", "sentence"),
    [
        (
            {"epohcs": 3},
            "unknown parameter 'epohcs' (did you mean 'epochs'?); this notebook takes epochs, learning_rate",
        ),
        ({"epochs": "many"}, "TrainConfig.epochs = 'many': must be a whole number"),
    ],
)
def test_papermill_stops_with_one_sentence(tmp_path: Any, parameters: dict[str, Any], sentence: str) -> None:
    from papermill.exceptions import PapermillExecutionError

    with pytest.raises(PapermillExecutionError) as caught:
        run_notebook(tmp_path, **parameters)
    text = str(caught.value)
    assert f"ConfigError: {sentence}\n" in text
    assert "Traceback" not in text
    assert "site-packages" not in text
    assert "core/config.py" not in text


def test_per_run_fields_take_one_value_or_one_for_each_run():
    class Runs(EnsembleConfig):
        PER_RUN: ClassVar[tuple[str, ...]] = ("rate", "seed")
        rate: OneOrMany[float] = 0.1
        seed: OneOrMany[int] = 0
        shared: tuple[int, ...] = (1, 2, 3)

    runs = Runs(seed=range(4), rate=0.5)
    assert runs.runs == 4
    assert runs.rate == (0.5,) * 4
    assert runs.select([2, 0]) == Runs(seed=(2, 0), rate=(0.5, 0.5))
    assert runs.shared == (1, 2, 3)
    assert Runs().runs == 1
    with pytest.raises(ConfigError, match="seed has 2 values for 3 runs; give one value, or one for each"):
        Runs(rate=(1.0, 2.0, 3.0), seed=(0, 1))
