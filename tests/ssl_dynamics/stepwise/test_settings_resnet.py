"""The notebook's settings: equal to the presets; STL-10 from disk to prediction, tiny."""

from __future__ import annotations

import hashlib
import io
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from learndyn.core import images, spectra
from learndyn.core.backbones import ResNetConfig
from learndyn.core.config import ConfigError
from learndyn.core.images import DataError, Part
from learndyn.core.pairs import FixedPairs
from learndyn.core.ssl_losses import BarlowTwinsTheoryLoss
from learndyn.ssl_dynamics.stepwise import prediction, presets
from learndyn.ssl_dynamics.stepwise import settings_resnet as experiment
from learndyn.ssl_dynamics.stepwise.settings_resnet import METHODS, Resnet

PAPER = Path(__file__).parents[3] / "profiles/paper/ssl_dynamics/stepwise_resnet.yaml"
LOGGING = {"snapshot_steps", "representation_modes"}


@pytest.mark.parametrize("method", METHODS)
def test_the_defaults_are_the_preset_of_the_small_network(method: str) -> None:
    ours, preset = Resnet(seeds=(0, 3)).config(method), presets.resnet(method, (0, 3))
    other = LOGGING | {"steps"}  # the notebook stops soon after the last step
    assert ours.model_dump(exclude=other) == preset.model_dump(exclude=other)
    assert 0.5 * preset.steps < ours.steps <= preset.steps
    assert len(ours.snapshot_steps) <= 91


@pytest.mark.parametrize("method", METHODS)
def test_the_paper_profile_is_the_preset_of_stl10(method: str) -> None:
    settings = Resnet.parse(yaml.safe_load(PAPER.read_text(encoding="utf-8")))
    ours, preset = settings.config(method), presets.stl10(method, batch_size=settings.batch_size)
    other = LOGGING | {"steps"}
    assert ours.model_dump(exclude=other) == preset.model_dump(exclude=other)
    assert ours.steps == 100 * (105_000 // settings.batch_size)
    assert settings.is_published_setup
    assert not Resnet().is_published_setup


def test_the_regular_start_has_scale_one_and_a_control_keeps_the_rest() -> None:
    settings = Resnet()
    regular = settings.config("simclr", regular=True)
    assert (regular.body_scale, regular.head_scale, regular.head_bias) == ((1.0,), (1.0,), (0.0,))
    assert regular.learning_rate == (0.05,)
    control = settings.config("barlow_twins", loss=BarlowTwinsTheoryLoss(), snapshot_steps=())
    assert control.loss[0] == BarlowTwinsTheoryLoss(centre=False)
    assert control.head_scale == settings.config("barlow_twins").head_scale


def test_bad_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"Resnet\.backbone = 'resnet34'"):
        Resnet(backbone="resnet34")
    with pytest.raises(ConfigError, match="learning_rates"):
        Resnet(learning_rates=(0.1,))


def test_the_spectrum_of_the_pixels_is_that_of_gamma() -> None:
    pairs = presets.resnet_pairs((0, 1), pairs=7)
    found = experiment.pixel_spectrum(pairs)
    gamma = spectra.cross_covariance(pairs.view_a[0].flatten(1), pairs.view_b[0].flatten(1))
    expected = torch.linalg.eigvalsh(gamma).flip(0)
    torch.testing.assert_close(found[:5], expected[:5], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found[-5:], expected[-5:], rtol=1e-8, atol=1e-8)


def test_random_subspaces_share_d_over_n() -> None:
    found = experiment.random_alignments(5, 100, 40, torch.Generator().manual_seed(0))
    assert found.shape == (40,)
    assert abs(found.mean() - 0.05) < 0.005


def test_the_first_step_is_early_from_a_larger_head() -> None:
    usual, larger = (experiment.first_step(steps=24, head_scale=scale) for scale in (0.01, 0.1))
    assert 0 < larger < usual < 0.24


# --- STL-10: a tiny archive of the same format, from disk through training to the table ---


def _stl10(folder: Path, side: int = 32, train: int = 6, unlabeled: int = 10) -> images.ImageSource:
    """Write an archive of so many pictures, pixels column by column, and say what is in it."""
    rng = np.random.default_rng(0)

    def pictures(count: int) -> bytes:
        coarse = rng.integers(0, 256, (count, 3, side // 8, side // 8), dtype=np.uint8)
        return coarse.repeat(8, 2).repeat(8, 3).tobytes()

    content = {
        "train_X.bin": pictures(train),
        "train_y.bin": bytes(1 + i % 10 for i in range(train)),
        "unlabeled_X.bin": pictures(unlabeled),
    }
    real = images.STL10
    path = folder / real.archive.file
    with tarfile.open(path, "w:gz") as tar:
        for name, data in content.items():
            member = tarfile.TarInfo(f"{real.archive.folder}/{name}")
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    checksum = f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    parts = Part("train_X.bin", train, labels="train_y.bin"), Part("unlabeled_X.bin", unlabeled)
    splits = {"train": parts[:1], "unlabeled": parts[1:], "train+unlabeled": parts}
    archive = replace(real.archive, checksum=checksum, size=path.stat().st_size)
    return replace(real, archive=archive, shape=(3, side, side), splits=splits)


def _tiny(folder: Path, **changes: object) -> Resnet:
    values = {
        "task": "stl10",
        "directory": str(folder),
        "pairs": 6,
        "batch_size": 4,
        "backbone": "resnet18",
        "stem": "standard",
        # At 16 the last stage would have a convolution of stride 2 on one pixel, whose gradient oneDNN takes
        # in part from memory that nobody has written, in bfloat16 on a CPU (torch 2.13): sometimes NaN.
        "view_size": 32,
        "dimensions": 3,
        "steps": (3, 3, 3),
        "representation_modes": 5,
        "snapshots": 2,
        "autocast": "bfloat16",
        "channels_last": True,
        "kernel_outputs": (2,),
        "kernel_block": 1100,  # one block of 12 views × 11 million parameters
        "progress": False,
    }
    return Resnet(**values | changes)


def test_stl10_goes_from_disk_through_training_to_the_prediction(tmp_path: Path) -> None:
    source = _stl10(tmp_path)
    settings = _tiny(tmp_path, checkpoints=str(tmp_path / "kept"), checkpoint_every=2)
    assert isinstance(settings.network, ResNetConfig)
    pairs = experiment.pair_source(settings, source=source)
    assert len(pairs.images) == 16
    assert [view.shape for view in pairs.batch(1)] == [(4, 3, 32, 32)] * 2
    assert [view.shape for view in pairs.evaluation()] == [(6, 3, 32, 32)] * 2
    trained = {"barlow_twins": experiment.train(settings, "barlow_twins", pairs)}
    log = trained["barlow_twins"].log
    assert log["representation_eigenvalues"].shape[-1] == 5
    assert bool(log["loss"].notnull().all())
    assert experiment.kept_steps(trained["barlow_twins"], [1, 100]) == [1, 3]
    # What the checkpoint holds is the whole training: again, it is read and not trained.
    assert list((tmp_path / "kept").glob("barlow_twins-small*.safetensors"))
    again = experiment.train(settings, "barlow_twins", pairs).log
    np.testing.assert_array_equal(again["loss"], log["loss"])

    found = experiment.kernel_predictions(settings, trained, pairs)
    assert dict(found["alignment"].sizes) == {"loss": 1, "run": 1, "when": 2, "means": 2}
    assert bool(((found["alignment"] > 0) & (found["alignment"] <= 1)).all())
    assert found.attrs["random"] == 3 / 12


def test_stl10_that_is_not_there_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="stl10_binary") as caught:
        experiment.pair_source(_tiny(tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="is not there"):
        experiment.pair_source(_tiny(tmp_path / "nowhere"))


# --- the table ---


@pytest.fixture(scope="module")
def small() -> tuple:
    """Two seeds of a network that has hardly been trained, for the shape of things."""
    settings = Resnet(pairs=8, dimensions=2 + 1, seeds=(0, 1), steps=(4, 4, 4), snapshots=2, progress=False)
    pairs = experiment.pair_source(settings)
    trained = {method: experiment.train(settings, method, pairs) for method in METHODS}
    return settings, pairs, trained, experiment.kernel_predictions(settings, trained, pairs)


def test_each_run_is_predicted_from_its_own_pairs(small: tuple) -> None:
    _, pairs, trained, found = small
    for run in (0, 1):
        own = FixedPairs(pairs.view_a[run], pairs.view_b[run])
        network = trained["vicreg"].network(run)
        expected = prediction.alignment_with_network(network, own)
        values = found["alignment"].sel(loss="vicreg", when="end").isel(run=run).values
        np.testing.assert_allclose(values, [expected.raw, expected.centred], rtol=1e-3)
    assert (np.diff(found["predicted_steps"]) >= 0).all()


def test_the_kernel_is_of_the_outputs_asked_for(small: tuple) -> None:
    settings, pairs, trained, _ = small
    network, one = trained["simclr"].network(), experiment.first_run(pairs)
    single = [prediction.network_kernel(network, one, outputs=[output]) for output in (0, 2)]
    matrix = experiment.kernel_of(settings.replace(kernel_outputs=(0, 2)), network, one)
    torch.testing.assert_close(
        matrix, (single[0] + single[1]) / 2, rtol=1e-4, atol=1e-6 * float(matrix.max())
    )
    torch.testing.assert_close(experiment.kernel_of(settings, network, one, outputs=[2]), single[1])


def test_the_table_has_our_rows_and_the_published_one(small: tuple) -> None:
    settings, _, _, found = small
    frame = experiment.alignment_frame(settings, found).set_index(["network", "kernel"])
    assert frame.index[1] == ("published: ResNet-50, STL-10", "after training")
    assert frame.iloc[1].tolist() == [0.615, 0.592, 0.517, 0.025]
    ours = frame.loc[("ours: small ResNet, photographs", "before training, means removed"), "simclr"]
    assert ours == pytest.approx(
        float(found["alignment"].sel(loss="simclr", when="start", means="removed").mean())
    )
    assert len(frame) == 7


def test_two_methods_are_compared_on_the_same_runs(small: tuple) -> None:
    settings, pairs, trained, _ = small
    found = experiment.method_alignment(settings, trained, pairs)
    assert set(found) == {("barlow_twins", "vicreg"), ("barlow_twins", "simclr"), ("vicreg", "simclr")}
    same = {"barlow_twins": trained["vicreg"], "vicreg": trained["vicreg"]}
    assert experiment.method_alignment(settings, same, pairs)["barlow_twins", "vicreg"] == pytest.approx(1)
