"""The presets show what they are for: steps, one dimension at a time, from small initialisation."""

import pytest
import torch

from learndyn.core import spectra
from learndyn.core.augment import Augmentation
from learndyn.core.backbones import ResNetConfig
from learndyn.core.pairs import FixedPairs
from learndyn.core.ssl_training import concatenate, initial_network, train
from learndyn.ssl_dynamics.stepwise import presets, tasks


def _eigenvalues(log, name):
    return torch.tensor(log[name].values)


def _steps(log):
    return torch.tensor(log.step.values)


@pytest.fixture(scope="module")
def digits():
    """One run of each loss on the same pairs, as one ensemble."""
    configs = [presets.mlp(name, (0,), steps=3000) for name in presets.LOSSES]
    return train(concatenate(configs), presets.mlp_pairs((0,))).log


def test_barlow_twins_walks_down_a_staircase(digits):
    run = digits.isel(run=0)
    correlation = _eigenvalues(run, "correlation_eigenvalues")
    assert float(run.loss[0]) == pytest.approx(8, abs=0.02)  # one for each dimension
    assert float(run.loss[-1]) < 2e-4
    assert int(spectra.clean_plateaus(correlation)) >= 5
    assert float(spectra.half_separations(correlation).median()) < 0.05
    times = spectra.half_times(_steps(run), correlation)
    assert (times.diff() >= 0).all()
    assert times[-1] > 5 * times[0]
    torch.testing.assert_close(correlation[-1], torch.ones(8, dtype=torch.float64), atol=0.02, rtol=0)
    # The staircase: each step down costs one, so at some logged time about k of 8 modes are there.
    for k in range(4):
        assert float(abs(run.loss - (8 - k)).min()) < 0.2


@pytest.mark.parametrize(("place", "final_loss", "separation"), [(1, 1e-3, 0.05), (2, 1.7, 0.15)])
def test_vicreg_and_simclr_do_so_too(digits, place, final_loss, separation):
    run = digits.isel(run=place)
    covariance = _eigenvalues(run, "covariance_eigenvalues")
    assert float(run.loss[-1]) < final_loss
    assert int(spectra.clean_plateaus(covariance)) >= 5
    assert float(spectra.half_separations(covariance).median()) < separation


def test_the_embedding_passes_through_one_dimension(digits):
    ratio = spectra.participation_ratio(_eigenvalues(digits, "covariance_eigenvalues"))
    assert (ratio.amin(1) < 1.3).all()
    assert (ratio[:, 0] > 3).all()
    assert (ratio[:, -1] > 5).all()


def test_the_head_bias_is_what_makes_simclr_step():
    without = presets.mlp("simclr", (0,), head_bias=0.0, steps=600)
    ratio = spectra.participation_ratio(
        _eigenvalues(train(without, presets.mlp_pairs((0,))).log, "covariance_eigenvalues")
    )
    assert ratio.min() > 2.2


def test_steps_sharpen_as_the_initialisation_shrinks():
    config = presets.init_scale_sweep((0,), steps=800)
    log = train(config, presets.mlp_pairs(config.seed)).log
    assert log.status_code.values.tolist() == [0] * 5
    assert log.body_scale.values.tolist() == [1.0, 0.5, 0.3, 0.2, 0.1]
    eigenvalues = _eigenvalues(log, "correlation_eigenvalues")
    separation = spectra.half_separations(eigenvalues).median(1).values
    assert (separation.diff() < 0).all()
    plateaus = spectra.clean_plateaus(eigenvalues)
    assert plateaus[0] <= 1
    assert plateaus[-1] >= 5
    assert presets.init_scale_sweep().runs == 15
    assert presets.init_scale_sweep().seed == (0, 1, 2) * 5


def test_the_resnet_starts_with_one_dimension_and_then_two():
    config = presets.resnet("barlow_twins", (0,), steps=100)
    log = train(config, presets.resnet_pairs((0,))).log.isel(run=0)
    eigenvalues = _eigenvalues(log, "covariance_eigenvalues")
    ratio = spectra.participation_ratio(eigenvalues)
    assert float(log.loss[0]) == pytest.approx(8, abs=0.01)
    assert ratio[0] > 3
    assert ratio.min() < 1.05
    assert 1.7 < float(ratio[-1]) < 2.6
    hidden = spectra.participation_ratio(_eigenvalues(log, "representation_eigenvalues"))
    assert hidden.min() < float(hidden[0]) - 0.5


def test_the_papers_mlp_begins_with_a_step():
    config = presets.paper_mlp((0,), steps=60)
    log = train(config, presets.paper_mlp_pairs((0,))).log.isel(run=0)
    eigenvalues = _eigenvalues(log, "correlation_eigenvalues")
    assert 8 < float(log.loss[0]) < 10
    assert 7 < float(log.loss[-1]) < 8
    assert float(abs(log.loss - 8).min()) < 0.3
    first = eigenvalues[:, 0]
    assert first[0] < 0.5
    assert abs(float(first[-1]) - 1) < 0.1


@pytest.mark.parametrize("loss", presets.LOSSES)
def test_every_preset_builds(loss):
    views = presets.resnet_pairs((3, 4))
    small = presets.resnet(loss, (3, 4), steps=1)
    assert small.seed == (3, 4)
    assert views.view_a.shape == (2, 96, 3, 16, 16)
    assert train(small, views.select([0, 1])).log.loss.notnull().all()
    large = presets.stl10(loss, epochs=2, batch_size=1000, learning_rate=0.3)
    assert large.steps == 200
    assert large.learning_rate == (0.3,)
    assert large.network == ResNetConfig(depth=50, stem="standard", dimensions=50)
    assert (large.head_bias[0] > 0) == (loss == "simclr")


def test_pairs_follow_the_seed_of_each_run():
    views = presets.mlp_pairs((5, 6, 5))
    assert views.runs == 3
    assert torch.equal(views.view_a[0], views.view_a[2])
    assert torch.equal(views.view_a[1], tasks.digit_pairs(6).view_a)
    assert presets.mlp_pairs((5, 5)).runs is None
    assert presets.paper_mlp_pairs((1,)).view_b.shape == (50, 3, 20, 20)


def test_stl10_trains_on_augmented_views():
    images = torch.randint(0, 256, (12, 3, 32, 32), dtype=torch.uint8)
    source = presets.stl10_pairs(images, batch_size=4, evaluation=3, augmentation=Augmentation(blur=0.0))
    config = presets.stl10("barlow_twins", epochs=1, network=ResNetConfig(depth=18, dimensions=5), steps=2)
    log = train(config, source).log
    assert log.embedding.shape == (1, 1, 2, 3, 5)
    assert log.loss.notnull().all()
    fixed = source.evaluation_pairs
    assert isinstance(fixed, FixedPairs)
    assert not torch.equal(fixed.view_a, fixed.view_b)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (lambda: presets.mlp("vicregg"), r"unknown loss 'vicregg' \(did you mean 'vicreg'\?\)"),
        (lambda: presets.resnet("byol"), "there for barlow_twins, vicreg, simclr"),
        (lambda: presets.mlp(scale=0.05), "no learning rate is known for scale 0.05"),
    ],
)
def test_presets_that_do_not_exist(call, sentence):
    with pytest.raises(presets.PresetError, match=sentence):
        call()


def test_a_given_learning_rate_is_taken():
    config = presets.mlp(scale=0.05, learning_rate=0.01)
    assert config.learning_rate == (0.01,)
    assert float(initial_network(config, 0).last.weight.detach().std()) == pytest.approx(0.05 / 16, rel=0.1)
