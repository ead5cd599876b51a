"""The benchmarks' baseline is honest, and every section runs."""

import re

import numpy as np
import pytest
import torch

BENCHMARK = "cogo"
METRICS = ("train_loss", "test_loss", "train_accuracy", "test_accuracy")


def _usual(modules, config, **changes):
    """Metrics of the usual trainer before each epoch, and after the last one."""
    from learndyn.cogo_li2 import initial

    seed, d = config.seed[0], config.size
    options = {"learning_rate": config.learning_rate[0], "weight_decay": config.weight_decay[0]} | changes
    trainer = modules("usual_trainer").UsualTrainer(
        initial.initial_weights(seed, d, config.hidden_size, config.rng).double(),
        initial.train_cells(seed, d, config.test_size, config.rng),
        **options,
    )
    return [*(trainer.epoch() for _ in range(config.epochs)), trainer.evaluate()], trainer.weights


def _config(rng="published"):
    from learndyn.cogo_li2.training import TrainConfig

    return TrainConfig(
        orders=(7,), hidden_size=20, epochs=25, weight_decay=1e-3, seed=3, rng=rng, dtype="float64"
    )


@pytest.mark.parametrize("rng", ["published", "vectorised"])
def test_the_usual_trainer_has_the_losses_of_the_library(modules, rng):
    from learndyn.cogo_li2.training import train

    config = _config(rng)
    found, weights = _usual(modules, config)
    wanted = train(config).isel(run=0)
    for i, name in enumerate(METRICS):
        np.testing.assert_allclose([row[i] for row in found], wanted[name], rtol=1e-9, err_msg=name)
    np.testing.assert_allclose(weights, wanted.weights[-1], atol=1e-9)


@pytest.mark.parametrize("changes", [{"weight_decay": 2e-3}, {"learning_rate": 0.0101}])
def test_that_comparison_notices_another_training(modules, changes):
    right, _ = _usual(modules, _config())
    wrong, _ = _usual(modules, _config(), **changes)
    assert abs(right[-1].train_loss - wrong[-1].train_loss) > 1e-6 * right[-1].train_loss


def test_metrics_can_be_left_out_without_changing_the_training(modules):
    _, plain = _usual(modules, _config(), evaluates=False)
    _, evaluated = _usual(modules, _config())
    assert torch.equal(plain, evaluated)


def test_the_three_products_neither_grow_nor_vanish(modules):
    call = modules("cogo_sections.one_step").three_products(11, 32, 4)
    hidden = next(cell.cell_contents for cell in call.__closure__ if isinstance(cell.cell_contents, list))[0][
        0
    ]
    for _ in range(3):
        call()
    assert hidden.norm() > 0.1
    before = hidden.clone()
    call()
    torch.testing.assert_close(hidden, before, rtol=1e-4, atol=1e-5)


def test_ratios_are_taken_within_rounds(modules):
    timing = modules("timing")
    # The machine is ten times slower in the second round, for everybody.
    seconds = {"slow": [2.0, 20.0, 2.2], "fast": [1.0, 10.0, 1.0], timing.PEAK: [0.5, 5.0, 0.5]}
    timings = timing.Timings({name: np.array(values) for name, values in seconds.items()}, 100.0)
    ratio = timings.ratio("slow", "fast")
    assert (ratio.median, ratio.low, ratio.high) == pytest.approx((2.0, 2.0, 2.2))
    assert timings.peak_rate == 200.0
    assert timings.floor_multiple("fast", 50.0).median == pytest.approx(4.0)


@pytest.mark.parametrize("section", ["step", "run", "closed", "ensemble", "solvers", "scaling", "memory"])
def test_every_section_prints_a_ratio_and_a_floor(report, section):
    text = report[section]
    assert re.search(r"ratio \d", text), text
    assert re.search(r"\d × floor", text), text
    assert " nan" not in text
    assert f"torch {torch.__version__}" in text


def test_scaling_prints_fitted_and_predicted_exponents(report):
    predicted = re.findall(r"time ∝ [dq]\^-?\d+\.\d+, operations ∝ ([dq])\^(\d\.\d+)", report["scaling"])
    assert [symbol for symbol, _ in predicted] == ["d", "q", "d", "q"]
    table_in_q = float(predicted[1][1])
    assert table_in_q == pytest.approx(1.0)


def test_without_a_gpu_the_section_says_so(report):
    if torch.cuda.is_available():
        assert "× floor" in report["cuda"]
    else:
        assert "skipped, since torch sees no GPU" in report["cuda"]


def test_the_sweeps_of_the_gpu_section_run(modules, capsys):
    timing = modules("timing")
    modules("cogo_sections.gpu").cuda(timing.Options(threads=1, quick=True), device="cpu")
    text = capsys.readouterr().out
    assert "45 runs" in text
    assert "300 runs" in text
    assert "of the peak" in text
