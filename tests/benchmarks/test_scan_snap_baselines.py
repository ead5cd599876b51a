"""The baselines of the benchmarks on Scan & Snap do what the paper and the library do; every section runs."""

import re

import numpy as np
import pytest
import torch

BENCHMARK = "scan_snap"
#: Losses of the authors' logs, by iteration: Figure 4 left (seed 2), and the first run of Figure 6 (seed 1).
FIGURE_4 = {0: 3.526360, 2: 2.367910, 4: 0.733475, 6: 0.160805, 8: 0.0444288, 10: 0.0129525}
FIGURE_6 = {0: 3.4548569, 2: 2.8762980, 4: 1.7582724, 6: 0.7731755}


def _losses(modules, shape, steps, **options):
    usual = modules("usual_one_hot")
    trainer = usual.UsualOneHotTrainer(*usual.sequence_classes(*shape), **options)
    return [trainer.step().item() for _ in range(steps)], trainer


@pytest.mark.parametrize("careful", [False, True])
def test_the_one_hot_trainer_has_the_published_losses(modules, careful):
    rates = {"attention_rate": 1.0, "rate_ratio": 1.0, "seed": 2, "zero": True}
    losses, _ = _losses(modules, (2, 1), 11, careful=careful, **rates)
    assert [losses[i] for i in FIGURE_4] == pytest.approx(list(FIGURE_4.values()), rel=1e-5)
    rates = {"attention_rate": 0.5, "rate_ratio": 1.0, "seed": 1}
    losses, _ = _losses(modules, (1, 2), 7, careful=careful, **rates)
    assert [losses[i] for i in FIGURE_6] == pytest.approx(list(FIGURE_6.values()), rel=1e-5)


def test_that_comparison_notices_other_rates(modules):
    rates = {"attention_rate": 1.0, "rate_ratio": 1.01, "seed": 2, "zero": True}
    losses, _ = _losses(modules, (2, 1), 11, **rates)
    assert abs(losses[10] / FIGURE_4[10] - 1) > 1e-3


@pytest.mark.parametrize("careful", [False, True])
def test_the_one_hot_trainer_follows_the_library(modules, careful):
    from learndyn.scan_snap.task import TaskConfig
    from learndyn.scan_snap.training import TrainConfig, train

    task = TaskConfig(queries=2, next_per_query=2, common_per_query=3)
    rates = {"attention_rate": 2.0, "rate_ratio": 3.0, "seed": 4}
    options = {"initialisation": "uniform", "rng": "published", "dtype": "float64", "steps": 12}
    wanted = train(TrainConfig(tasks=[task], keep_decoder=True, **options, **rates)).isel(run=0, snapshot=-1)
    losses, trainer = _losses(modules, (2, 2, 10, 3), 12, careful=careful, dtype=torch.float64, **rates)
    np.testing.assert_allclose(losses, wanted.loss[:-1], rtol=1e-9)
    attention = trainer.attention_logits[task.query_tokens]
    np.testing.assert_allclose(attention, wanted.attention, atol=1e-11)
    np.testing.assert_allclose(trainer.decoder_logits, wanted.decoder, atol=1e-11)


def _text(**changes):
    """An ensemble of two small language models in float64 without dropout, and its text."""
    from learndyn.core.corpora import corpus
    from learndyn.core.text import language_data
    from learndyn.core.text_settings import TextConfig

    options = {"layers": 2, "width": 12, "hidden_size": 12, "window_length": 9, "dtype": "float64"}
    options |= {"dropout": 0.0, "steps": 6, "log_every": 1}
    rates = {"learning_rate": (1.0, 5.0), "hidden_rate_factor": (2.0, 0.5), "seed": (0, 1)}
    return TextConfig(**options | rates | changes), language_data(corpus("topics"), 99, train_columns=5)


def _text_losses(modules, config, data, trainer):
    steps = range(config.steps)
    batches = [data.train.window(step, config.window_length) for step in steps]
    return [trainer.step(*batch).item() for batch in batches]


def test_the_usual_text_trainer_follows_the_library(modules):
    from learndyn.core.text_program import TextProgram

    section = modules("scan_snap_sections.language")
    config, data = _text()
    program = TextProgram(config, data, torch.device("cpu"))
    trainers = [section.usual(program, run) for run in range(config.runs)]
    # The positions of the usual model are sines in float32, so that it follows to some 1e-8.
    for step in range(config.steps):
        program.advance(step, logged=True)
    for run, trainer in enumerate(trainers):
        losses = _text_losses(modules, config, data, trainer)
        np.testing.assert_allclose(losses, program.log.values["train_loss"][run, :-1], rtol=1e-8)
        ours = section.usual(program, run).model.state_dict()
        for name, theirs in trainer.model.state_dict().items():
            torch.testing.assert_close(ours[name], theirs, rtol=0, atol=1e-7, msg=name)


@pytest.mark.parametrize("changes", [{"hidden_rate_factor": 2.01}, {"clip_norm": 0.51}])
def test_that_comparison_notices_another_training_of_text(modules, changes):
    from learndyn.core.text_program import TextProgram

    section = modules("scan_snap_sections.language")
    found = []
    for each in ({}, changes):
        config, data = _text(**each)
        trainer = section.usual(TextProgram(config, data, torch.device("cpu")))
        found.append(_text_losses(modules, config, data, trainer)[-1])
    assert abs(found[1] / found[0] - 1) > 1e-5


def test_the_plain_flow_is_that_of_the_library(modules):
    from learndyn.scan_snap import flow

    section, times = modules("scan_snap_sections.flows"), np.array([1.0, 20.0])
    _, classes = section.medium_classes(3)
    plain, evaluations = section.autograd_solve(classes, times)
    ours = flow.solve(classes, times, **section.RATES)
    np.testing.assert_allclose(ours.attention, plain, atol=1e-8)
    assert np.abs(plain).max() > 1e-3
    assert evaluations > 12


def test_operations_of_a_language_model_are_those_that_torch_counts(modules):
    from torch.utils.flop_counter import FlopCounterMode

    from learndyn.core.text_program import TextProgram

    section = modules("scan_snap_sections.language")
    config, data = _text(learning_rate=1.0, hidden_rate_factor=2.0, seed=0, width=32, hidden_size=32)
    inputs, targets = data.train.window(0, config.window_length)
    trainer = section.usual(TextProgram(config, data, torch.device("cpu")))
    with FlopCounterMode(display=False) as counter:
        trainer.step(inputs, targets)
    work = section.step_work(config, len(data.vocabulary), inputs.numel())
    # Norm, clipping and update are no products; torch computes all scores, those in the future too.
    updates = 5 * work.bytes / 8
    assert counter.get_total_flops() == pytest.approx(work.operations - updates, rel=0.06)


def test_operations_of_a_step_on_counts_are_those_of_its_products(modules):
    from torch.utils.flop_counter import FlopCounterMode

    from learndyn.scan_snap.training import PRESETS

    section = modules("scan_snap_sections.finite_length")
    config = PRESETS["figure_6"].select([639])
    task = config.tasks[config.task[0]]
    step = section.stepper(config.replace(rng="vectorised"))
    step()
    with FlopCounterMode(display=False) as counter:
        step()
    products = config.batch_size * 6 * task.support * task.vocabulary
    # Every class has room for as many samples as the largest one has.
    assert products <= counter.get_total_flops() <= 3 * products
    assert products <= section.step_work(task, config.batch_size).operations <= 1.2 * products


def test_baselines_leave_the_global_random_state_alone(modules):
    before = torch.get_rng_state()
    _losses(modules, (1, 2), 2, attention_rate=0.5, rate_ratio=1.0, seed=1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("section", ["grid", "grid_scaling", "symmetric", "flow", "text"])
def test_every_section_prints_a_ratio_and_a_floor(report, section):
    text = report[section]
    assert re.search(r"ratio \d", text), text
    assert re.search(r"\d × floor", text), text
    assert " nan" not in text
    assert f"torch {torch.__version__}" in text


def test_the_target_of_the_grid_is_named(report):
    assert report["grid"].count("target ≥ 10") == 1
    assert "plain / one program" in report["grid"]


def test_exponents_are_printed_beside_those_of_the_operations(report):
    for section, number in (("grid_scaling", 2), ("flow", 3)):
        found = re.findall(r"time ∝ \S.*\^-?\d+\.\d+, operations ∝ \S.*\^(-?\d+\.\d+)", report[section])
        assert len(found) == number, report[section]
    assert float(found[-1]) == pytest.approx(0, abs=0.05)  # the flow does not depend on an idle vocabulary


def test_without_a_gpu_the_section_says_so(report):
    if torch.cuda.is_available():
        assert "× floor" in report["cuda"]
    else:
        assert "skipped, since torch sees no GPU" in report["cuda"]


def test_the_gpu_section_runs(modules, capsys):
    options = modules("timing").Options(threads=1, quick=True)
    modules("scan_snap_sections.gpu").cuda(options, device="cpu")
    text = capsys.readouterr().out
    assert "tokens/s" in text
    assert "trajectories" in text
