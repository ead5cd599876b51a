"""The baselines of the benchmarks on SSL do what the library does, and every section runs."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

BENCHMARK = "stepwise"


def _trainings(modules, **changes):
    """Losses before each of 30 steps, and the last weights: of the library and of the usual trainers."""
    from learndyn.core.ssl_training import train
    from learndyn.ssl_dynamics.stepwise import presets

    section = modules("ssl_sections.mlp_ensemble")
    config = section.configuration((0, 1), hidden=20, steps=30, dtype="float64", log_ratio=1.0001)
    pairs = presets.mlp_pairs(config.seed, 12)
    wanted = train(config, pairs)
    assert wanted.log.step.values.tolist() == list(range(31))
    trainers = [section.usual(config.replace(**changes), pairs, run) for run in range(config.runs)]
    losses = np.array([[trainer.step().item() for _ in range(30)] for trainer in trainers])
    return config, wanted, losses, trainers


def test_the_usual_trainer_follows_the_library(modules):
    config, wanted, losses, trainers = _trainings(modules)
    assert len({loss.kind for loss in config.loss}) == 3
    np.testing.assert_allclose(losses, wanted.log.loss.values[:, :30], rtol=1e-9)
    for run, trainer in enumerate(trainers):
        ours = dict(wanted.network(run).named_parameters())
        theirs = list(trainer.model.parameters())
        assert len(ours) == len(theirs) == (3 if config.head_bias[run] else 2)
        for one, other in zip(ours.values(), theirs, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-9)


def test_that_comparison_notices_another_learning_rate(modules):
    config, wanted, losses, _ = _trainings(modules, learning_rate=0.003)
    assert 0.003 not in config.learning_rate
    assert (abs(losses[:, 29] / wanted.log.loss.values[:, 29] - 1) > 1e-7).all()


def test_a_loss_without_a_usual_form_is_refused(modules):
    from learndyn.core.ssl_losses import loss

    with pytest.raises(ValueError, match="spectral_contrastive"):
        modules("ssl_sections.mlp_ensemble").usual_loss(loss("spectral_contrastive"))


def test_operations_of_a_step_are_those_that_torch_counts(modules):
    from torch.utils.flop_counter import FlopCounterMode

    from learndyn.ssl_dynamics.stepwise import presets

    section = modules("ssl_sections.mlp_ensemble")
    config = section.configuration((0,), hidden=20)
    trainer = section.usual(config, presets.mlp_pairs((0,), 12), 0)
    with FlopCounterMode(display=False) as counter:
        trainer.step()
    small = 3 * 2 * 12 * 8 * 8 + 2 * 12 * 8 * 8  # C of the embeddings and its two gradients
    assert abs(counter.get_total_flops() - section.products(config.select([0]), 12)) <= small


def _images(side, number=24):
    """Smooth pictures, so that one byte more or less in a hue does not show."""
    place = torch.linspace(0, 3, side)
    wave = torch.stack([torch.sin(place[:, None] * (1 + i % 3) + place * (i % 4)) for i in range(number * 3)])
    return ((wave.view(number, 3, side, side) + 1) * 100 + 20).to(torch.uint8)


@pytest.mark.parametrize(("side", "blur"), [(32, 0.0), (96, 1.0)])
def test_pillow_gives_the_same_views_from_the_same_draws(modules, side, blur):
    from learndyn.core.augment import Augmentation

    usual, number = modules("usual_augmentation"), 24
    # Crops that are enlarged: Pillow averages where it shrinks.
    recipe = Augmentation(size=(side, side), crop_scale=(0.3, 1.0), blur=blur)
    data = _images(side, number)
    draws = recipe.draw(number, side, side, 0)
    ours, theirs = recipe.apply(data, draws), []
    pillow = usual.Recipe(side)
    for i in range(number):
        draw = usual.Draw(
            crop=tuple(draws.crop[i].tolist()),
            flip=bool(draws.flip[i]),
            order=tuple(draws.order[i].tolist()) if draws.jitter[i] else (),
            factors=tuple(draws.factors[i].tolist()),
            hue=float(draws.hue[i]),
            grayscale=bool(draws.grayscale[i]),
            sigma=float(draws.sigma[i]) if draws.blur[i] else 0.0,
        )
        image = Image.fromarray(data[i].permute(1, 2, 0).numpy())
        theirs.append(pillow.apply(image, draw))
    difference = (ours - torch.stack(theirs)).abs()
    assert difference.mean() < 0.015
    assert difference.flatten(1).mean(1).max() < 0.04
    # And it matters which draw belongs to which image.
    assert (ours - torch.stack(theirs).roll(1, 0)).abs().mean() > 0.1


def test_pillow_draws_as_the_library_does(modules):
    import random

    from learndyn.core.augment import SIMCLR_CIFAR

    usual, number = modules("usual_augmentation"), 4000
    section = modules("ssl_sections.augmentation")
    recipe = section.usual_recipe(SIMCLR_CIFAR, 32)
    state = random.getstate()
    random.seed(0)
    theirs = [recipe.draw(32, 40) for _ in range(number)]
    random.setstate(state)
    ours = SIMCLR_CIFAR.draw(number, 32, 40, 0)
    assert isinstance(theirs[0], usual.Draw)

    def same(left, right):
        left, right = np.asarray(left, float), np.asarray(right, float)
        error = np.sqrt((left.var(0) + right.var(0)) / number)
        assert np.all(abs(left.mean(0) - right.mean(0)) <= 4.5 * error)
        np.testing.assert_allclose(left.std(0), right.std(0), rtol=0.08)

    same([d.crop for d in theirs], ours.crop)
    same([d.flip for d in theirs], ours.flip)
    same([bool(d.order) for d in theirs], ours.jitter)
    same([d.grayscale for d in theirs], ours.grayscale)
    jittered = [d for d in theirs if d.order]
    same([d.factors for d in jittered[:3000]], ours.factors[:3000])
    same([d.hue for d in jittered[:3000]], ours.hue[:3000])
    assert not any(d.sigma for d in theirs)


def test_the_kernel_of_the_loop_is_that_of_the_library(modules):
    from learndyn.core.backbones import MLPConfig
    from learndyn.core.device import generator
    from learndyn.core.tangent_kernel import tangent_kernel

    network = MLPConfig(inputs=5, hidden=(7,), dimensions=3).build(generator(0, "weights"))
    x = torch.randn(6, 5, generator=generator(0, "x"))
    loop = modules("ssl_sections.tangent").loop_kernel(network, x)
    torch.testing.assert_close(tangent_kernel(network, x), loop, rtol=1e-5, atol=1e-6)


def test_both_linear_probes_are_as_near_the_minimum(modules):
    from learndyn.core.evaluation import linear_probe
    from learndyn.ssl_dynamics.stepwise.tasks import digit_split

    section = modules("ssl_sections.evaluations")
    train, _ = digit_split(0, 200)
    features = section.representations(train.images, 2, 16)
    ours, found = linear_probe(features, train.labels), {}
    for tolerance in (1e-8, 1e-4):
        found[tolerance] = []
        for problem in features:
            scaler, model = section.logistic(tolerance).fit(problem.numpy(), train.labels.numpy())
            x = torch.from_numpy(scaler.transform(problem.numpy()))
            weights = torch.from_numpy(model.coef_.T)
            logits = x @ weights + torch.from_numpy(model.intercept_)
            fit = torch.nn.functional.cross_entropy(logits, train.labels)
            found[tolerance].append((fit + weights.square().sum() / (2 * len(x))).item())
    minimum = ours.objective.tolist()
    assert found[1e-8] == pytest.approx(minimum, rel=1e-9)
    assert found[1e-4] != pytest.approx(minimum, rel=1e-6)


@pytest.mark.parametrize("section", ["toy", "ensemble", "augment", "resnet", "tangent", "evaluation"])
def test_every_section_prints_a_ratio(report, section):
    text = report[section]
    assert re.search(r"ratio \d", text), text
    assert " nan" not in text
    assert f"torch {torch.__version__}" in text


@pytest.mark.parametrize("section", ["toy", "toy_scaling", "ensemble", "tangent", "evaluation"])
def test_sections_of_products_print_a_floor(report, section):
    assert re.search(r"\d × floor", report[section]), report[section]


def test_targets_are_named(report):
    for section, target in {"toy": "≥ 50", "augment": "≥ 1"}.items():
        assert f"target {target}" in report[section]


def test_without_a_gpu_the_sections_say_so(report):
    if not torch.cuda.is_available():
        for section in ("resnet_cuda", "augment_cuda"):
            assert "skipped, since torch sees no GPU" in report[section]


def test_the_gpu_sections_run(modules, capsys):
    options = modules("timing").Options(threads=1, quick=True)
    modules("ssl_sections.augmentation").augment_cuda(options, device="cpu")
    assert "images/s" in capsys.readouterr().out
