"""The embedded tasks: how they are made, and the spectra of Γ that an earlier implementation found."""

import pytest
import torch
from sklearn.datasets import load_digits, load_sample_images

from learndyn.core.pairs import PairsError
from learndyn.ssl_dynamics.stepwise import tasks


def _gamma(pairs):
    """Eigenvalues of (1/2n) Σ (x x'ᵀ + x' xᵀ), largest first."""
    a, b = pairs.view_a.flatten(1).double(), pairs.view_b.flatten(1).double()
    product = a.T @ b / len(a)
    return torch.linalg.eigvalsh((product + product.T) / 2).flip(0)


def test_spectrum_of_all_digits():
    """Eigenvalues of four draws of the noise; their standard deviation was below 0.07."""
    expected = torch.tensor([9.54, 8.69, 7.56, 5.37, 3.72, 3.14, 2.78, 2.34, 2.15, 1.96, 1.52, 1.46])
    found = torch.stack([_gamma(tasks.digit_pairs(seed, pairs=1797))[:12] for seed in range(4)])
    torch.testing.assert_close(found.mean(0).float(), expected, rtol=0, atol=0.1)


def test_spectrum_of_100_digits():
    expected = torch.tensor([10.7, 9.1, 7.6, 5.5, 4.2, 3.5, 3.0, 2.7])
    found = torch.stack([_gamma(tasks.digit_pairs(seed))[:8] for seed in range(8)])
    torch.testing.assert_close(found.mean(0).float(), expected, rtol=0, atol=0.5)


@pytest.mark.parametrize(
    ("pairs", "patch", "crop", "largest", "spread", "ratios"),
    [
        (500, 32, 20, 733, 32, [1, 0.140, 0.070, 0.052, 0.011, 0.009, 0.008, 0.007, 0.005]),
        (96, 24, 16, 520, 53, [1, 0.129, 0.062, 0.042, 0.011, 0.009]),
    ],
)
def test_spectrum_of_photo_crops(pairs, patch, crop, largest, spread, ratios):
    """Means of four draws; single draws spread by ``spread``, and by about 10 % in the ratios."""
    found = torch.stack(
        [_gamma(tasks.photo_pairs(seed, pairs, patch, crop))[: len(ratios)] for seed in range(4)]
    )
    assert abs(float(found[:, 0].mean()) - largest) < 2 * spread
    relative = (found / found[:, :1]).mean(0).float()
    torch.testing.assert_close(relative, torch.tensor(ratios, dtype=torch.float32), rtol=0.25, atol=0)


def test_digits_are_centred_and_divided_by_their_rms():
    pixels = torch.from_numpy(load_digits().data) / 16
    centred = pixels - pixels.mean(0)
    rms = float((centred**2).mean() ** 0.5)
    assert rms == pytest.approx(0.271, abs=5e-4)
    digits = tasks.all_digits()
    assert digits.pixel_rms == pytest.approx(rms, rel=1e-6)
    torch.testing.assert_close(digits.images.double(), centred / rms, rtol=0, atol=1e-5)
    assert digits.labels.tolist() == load_digits().target.tolist()


def test_digit_pairs_are_different_digits_with_noise_in_pixel_units():
    made, digits = tasks.digit_pairs(3, pairs=400, noise_sd=0.15), tasks.all_digits()
    assert made.view_a.shape == made.view_b.shape == (400, 64)
    middle = (made.view_a + made.view_b) / 2
    nearest = torch.cdist(middle, digits.images).argmin(1)
    assert (
        len(nearest.unique()) > 390
    )  # the mean of two noisy views is nearly always nearest to its own digit
    noise = (made.view_a - digits.images[nearest]).std() * digits.pixel_rms
    assert float(noise) == pytest.approx(0.15, rel=0.02)
    clean = tasks.digit_pairs(3, pairs=400, noise_sd=0.0)
    assert torch.equal(clean.view_a, clean.view_b)
    assert not torch.equal(tasks.digit_pairs(4).view_a, tasks.digit_pairs(3).view_a)
    assert torch.equal(tasks.digit_pairs(3).view_a, tasks.digit_pairs(3).view_a)


def test_digit_split_is_a_partition():
    train, test = tasks.digit_split(0, train=1000)
    assert (len(train.images), len(test.images)) == (1000, 797)
    digits = tasks.all_digits()
    both = torch.cat([train.images, test.images]).double()
    torch.testing.assert_close(both.sum(0), digits.images.double().sum(0), rtol=0, atol=1e-2)
    assert torch.equal(torch.cat([train.labels, test.labels]).sort().values, digits.labels.sort().values)
    assert train.pixel_rms == digits.pixel_rms
    assert not torch.equal(tasks.digit_split(1)[0].labels, train.labels)


def test_photo_pairs_are_standardised_crops():
    made = tasks.photo_pairs(0, pairs=40, patch=32, crop=20)
    assert made.view_a.shape == (40, 3, 20, 20)
    photos = torch.stack([torch.from_numpy(image.copy()) for image in load_sample_images().images])
    photos = photos.double().movedim(-1, 1) / 255
    small = torch.nn.functional.avg_pool2d(photos, 4)
    small = small - small.mean((0, 2, 3), keepdim=True)
    small = small / small.square().mean((0, 2, 3), keepdim=True).sqrt()
    for i in range(6):
        windows = small[i % 2].unfold(1, 20, 1).unfold(2, 20, 1)
        for view in (made.view_a, made.view_b):
            distance = (windows - view[i].double()[:, None, None]).abs().amax((0, 3, 4))
            assert distance.min() < 1e-4


def test_bad_tasks():
    with pytest.raises(tasks.TaskError, match="pairs must be from 1 to 1797"):
        tasks.digit_pairs(0, pairs=1798)
    with pytest.raises(tasks.TaskError, match="train must be from 1 to 1796"):
        tasks.digit_split(0, train=1797)
    with pytest.raises(PairsError, match="does not fit photographs of 106 × 160"):
        tasks.photo_pairs(0, pairs=2, patch=107, crop=20)
