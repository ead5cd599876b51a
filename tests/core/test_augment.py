"""Each transform against a computation of one image at a time (PIL, colorsys, scipy, torch); the draws."""

import colorsys
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance
from scipy import ndimage, stats
from torch.nn import functional

from learndyn.core import augment
from learndyn.core.augment import Augmentation, AugmentationError
from learndyn.core.config import ConfigError

NOTHING = Augmentation(
    crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grayscale=0.0, blur=0.0
)
#: Everything happens often, so that few images test all combinations.
MUCH = Augmentation(flip=0.5, jitter=0.7, grayscale=0.4, blur=0.6, strength=1.2)


def _images(number=12, channels=3, height=24, width=20, seed=0, dtype=torch.uint8):
    """Smooth colours with some saturated and some gray pixels."""
    g = torch.Generator().manual_seed(seed)
    coarse = torch.rand(number, channels, 4, 4, generator=g)
    fine = functional.interpolate(coarse, (height, width), mode="bilinear").mul(1.6).sub(0.3).clamp(0, 1)
    fine[:, :, :2] = fine[:, :1, :2]
    images = (fine * 255).round().byte()
    return images if dtype == torch.uint8 else images.to(dtype) / 255


def _pil(image):
    return Image.fromarray((image * 255).round().byte().permute(1, 2, 0).numpy())


def _from_pil(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def _neutral(images):
    """Draws that change nothing, to be altered."""
    height, width = images.shape[2:]
    crop = torch.tensor([[0, 0, height, width]] * len(images))
    return _alter(NOTHING.draw(len(images), height, width, 0), crop=crop)


def _alter(draws, **changes):
    return augment.Draws(**(vars(draws) | changes))


# Crop, resize, flip


@given(data=st.data())
def test_crop_is_interpolation_of_each_slice_alone(data):
    height, width = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    size = data.draw(st.integers(1, 16)), data.draw(st.integers(1, 16))
    images = torch.rand(3, 2, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    boxes, expected, flips = [], [], []
    for image in images:
        h, w = data.draw(st.integers(1, height)), data.draw(st.integers(1, width))
        top, left = data.draw(st.integers(0, height - h)), data.draw(st.integers(0, width - w))
        flip = data.draw(st.booleans())
        piece = image[None, :, top : top + h, left : left + w]
        view = functional.interpolate(piece, size, mode="bilinear", align_corners=False)[0]
        expected.append(view.flip(-1) if flip else view)
        boxes.append((top, left, h, w))
        flips.append(flip)
    views = augment.crop_and_flip(images, torch.tensor(boxes), torch.tensor(flips), size)
    torch.testing.assert_close(views, torch.stack(expected), rtol=0, atol=1e-12)


def test_crop_is_that_of_pil():
    images = _images()
    draws = Augmentation(jitter=0.0, grayscale=0.0, blur=0.0).draw(12, 24, 20, 3)
    views = NOTHING.apply(images, draws)
    for image, box, flip, view in zip(images, draws.crop.tolist(), draws.flip, views, strict=True):
        top, left, height, width = box
        piece = _pil(image / 255).crop((left, top, left + width, top + height))
        piece = piece.resize((20, 24), Image.Resampling.BILINEAR)
        if flip:
            piece = piece.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        torch.testing.assert_close(view, _from_pil(piece), rtol=0, atol=1.1 / 255)


def test_doing_nothing_is_exact_up_to_rounding():
    images, square = _images(), _images(height=16, width=16)
    torch.testing.assert_close(NOTHING.apply(images, _neutral(images)), images / 255, rtol=0, atol=5e-6)
    torch.testing.assert_close(NOTHING(square, 0), square / 255, rtol=0, atol=5e-6)


# Jitter


def _jitter_one(image, factors, turns, order):
    """Brightness, contrast, saturation and hue as torchvision's documentation says, pixel by pixel."""
    pixels = image.double().permute(1, 2, 0).numpy().copy()
    for operation in order:
        light = pixels @ np.array([0.299, 0.587, 0.114])
        if operation == augment.BRIGHTNESS:
            pixels = pixels * factors[0]
        elif operation == augment.CONTRAST:
            pixels = factors[1] * pixels + (1 - factors[1]) * light.mean()
        elif operation == augment.SATURATION:
            pixels = factors[2] * pixels + (1 - factors[2]) * light[:, :, None]
        else:
            for row, column in np.ndindex(*light.shape):
                hue, saturation, value = colorsys.rgb_to_hsv(*pixels[row, column])
                pixels[row, column] = colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value)
        pixels = pixels.clip(0, 1)
    return torch.from_numpy(pixels).permute(2, 0, 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_jitter_is_that_of_each_image_in_its_own_order(dtype):
    orders = torch.tensor(list(itertools.permutations(range(4))))
    images = _images(len(orders), height=8, width=6, dtype=dtype)
    draws = Augmentation(jitter=0.8, strength=1.2).draw(len(orders), 8, 6, 5)
    keep = {name: getattr(draws, name) for name in ("jitter", "factors", "hue")}
    draws = _alter(_neutral(images), order=orders, **keep)
    views = NOTHING.apply(images, draws)
    assert 10 < draws.jitter.sum() < 24
    for i, view in enumerate(views):
        expected = images[i].double()
        if draws.jitter[i]:
            expected = _jitter_one(
                images[i], draws.factors[i].double().numpy(), float(draws.hue[i]), orders[i]
            )
        # float32: a hue is a difference of nearly equal numbers, and what comes after it may magnify.
        torch.testing.assert_close(
            view.double(), expected, rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-7
        )


@pytest.mark.parametrize(
    ("operation", "enhance"),
    list(enumerate([ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color])),
)
def test_factors_mean_what_they_mean_to_pil(operation, enhance):
    images = _images()
    factors = torch.ones(12, 3)
    factors[:, operation] = torch.linspace(0.1, 1.9, 12)
    draws = _alter(
        _neutral(images), jitter=torch.ones(12, dtype=torch.bool), factors=factors, hue=torch.zeros(12)
    )
    views = NOTHING.apply(images, draws)
    for image, factor, view in zip(images, factors[:, operation].tolist(), views, strict=True):
        expected = _from_pil(enhance(_pil(image / 255)).enhance(factor))
        torch.testing.assert_close(view, expected, rtol=0, atol=2 / 255)


@given(
    color=st.tuples(*[st.sampled_from([0.0, 1.0, 0.5, 1e-6, 0.123]) | st.floats(0, 1, width=32)] * 3),
    turns=st.sampled_from([0.0, 0.5, -0.5, 1 / 6, 1 / 3]) | st.floats(-0.5, 0.5, width=32),
)
def test_hue_of_any_color(color, turns):
    pixel = torch.tensor(color, dtype=torch.float64).view(1, 3, 1, 1)
    augment.rotate_hue_(pixel, torch.tensor([turns], dtype=torch.float64))
    hue, saturation, value = colorsys.rgb_to_hsv(*color)
    expected = colorsys.hsv_to_rgb((hue + turns) % 1, saturation, value)
    assert pixel.flatten().tolist() == pytest.approx(expected, abs=1e-12)


# Grayscale and blur


def test_grayscale_is_that_of_pil_where_drawn():
    images = _images()
    chosen = torch.arange(12) % 3 == 0
    views = NOTHING.apply(images, _alter(_neutral(images), grayscale=chosen))
    for image, gray, view in zip(images, chosen, views, strict=True):
        expected = _from_pil(_pil(image / 255).convert("L").convert("RGB")) if gray else image / 255
        torch.testing.assert_close(view, expected, rtol=0, atol=1 / 255 if gray else 1e-5)


@pytest.mark.parametrize(("height", "width"), [(24, 40), (96, 96), (12, 12)])
def test_blur_is_that_of_scipy_where_drawn(height, width):
    images = _images(6, height=height, width=width, dtype=torch.float64)
    chosen, sigma = torch.tensor([1, 1, 0, 1, 1, 1]).bool(), torch.tensor([0.1, 0.5, 1.0, 1.3, 2.0, 0.2])
    recipe = NOTHING.replace(blur_kernel=0.1)
    views = recipe.apply(images, _alter(_neutral(images), blur=chosen, sigma=sigma))
    for i, view in enumerate(views):
        expected = images[i].numpy()
        for axis, side in (1, height), (2, width):
            radius = math.floor(0.1 * side) // 2
            if chosen[i] and radius:
                expected = ndimage.gaussian_filter1d(
                    expected, float(sigma[i]), axis, radius=radius, mode="mirror"
                )
        torch.testing.assert_close(view, torch.from_numpy(expected), rtol=0, atol=1e-10)


@pytest.mark.parametrize(("side", "taps"), [(224, 23), (96, 9), (32, 3), (16, 1)])
def test_published_kernel_is_a_tenth_of_the_side_made_odd(side, taps):
    assert augment.SIMCLR_STL10._radius((side, 32)) == (taps // 2, 1)


# The whole recipe


def test_replay_gives_identical_views_and_leaves_the_global_state():
    images, state = _images(40), torch.get_rng_state()
    draws = MUCH.draw(40, 24, 20, augment.generator(7, "test"))
    first = MUCH.apply(images, draws)
    assert torch.equal(first, MUCH.apply(images, draws))
    assert torch.equal(first, MUCH(images, augment.generator(7, "test")))
    assert not torch.equal(first, MUCH(images, augment.generator(8, "test")))
    assert torch.equal(MUCH(images, 3), MUCH(images, 3))
    assert torch.equal(torch.get_rng_state(), state)


def test_a_generator_goes_on():
    rng = augment.generator(0, "test")
    assert not torch.equal(MUCH(_images(), rng), MUCH(_images(), rng))


def test_an_image_does_not_depend_on_its_batch(monkeypatch):
    images = _images(40)
    draws = MUCH.draw(40, 24, 20, 0)
    together = MUCH.apply(images, draws)
    alone = torch.cat([MUCH.apply(images[i : i + 1], draws[i : i + 1]) for i in range(40)])
    torch.testing.assert_close(together, alone, rtol=0, atol=2e-6)
    monkeypatch.setattr(augment, "_CHUNK", 7 * 3 * 24 * 20)
    torch.testing.assert_close(MUCH.apply(images, draws), together, rtol=0, atol=2e-6)


@pytest.mark.parametrize("size", [None, (16, 30)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
def test_views_stay_between_0_and_1(size, channels, dtype):
    images = _images(64, channels, dtype=dtype)
    before = images.clone()
    views = MUCH.replace(size=size)(images, 0)
    assert views.shape == (64, channels, *(size or (24, 20)))
    assert views.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    # A blur sums up to nine weights that add to 1 within rounding.
    assert views.min() >= 0
    assert views.max() <= 1 + 1e-6
    assert torch.equal(images, before)


def test_uint8_is_float_divided_by_255():
    images = _images()
    torch.testing.assert_close(MUCH(images, 0), MUCH(images.float() / 255, 0), rtol=0, atol=1e-6)


def test_one_channel_is_what_three_equal_channels_are():
    gray = _images(40, 1)
    three = gray.expand(-1, 3, -1, -1)
    expected = MUCH(three, 0)
    torch.testing.assert_close(MUCH(gray, 0).expand(-1, 3, -1, -1), expected, rtol=0, atol=1e-5)


def test_nothing_waits_for_the_device():
    """On the meta device there are no values: whatever asked for one would fail."""
    for number in (0, 5):
        images = torch.empty(number, 3, 24, 20, dtype=torch.uint8, device="meta")
        views = MUCH.replace(jitter=1.0, grayscale=1.0, blur=1.0)(images, 0)
        assert views.device.type == "meta"
        assert views.shape == (number, 3, 24, 20)


# The draws

MANY = 20_000


def _within(observed, probability):
    """A count of MANY trials, to 4 standard deviations."""
    return (
        abs(float(observed) - MANY * probability)
        < 4 * math.sqrt(MANY * probability * (1 - probability)) + 1e-9
    )


def test_frequencies_are_the_published_ones():
    draws = augment.SIMCLR_IMAGENET.draw(MANY, 32, 32, 0)
    assert _within(draws.flip.sum(), 0.5)
    assert _within(draws.jitter.sum(), 0.8)
    assert _within(draws.grayscale.sum(), 0.2)
    assert _within(draws.blur.sum(), 0.5)
    counts = torch.unique(draws.order, dim=0, return_counts=True)[1]
    assert len(counts) == 24
    assert stats.chisquare(counts.numpy()).pvalue > 1e-3
    assert not augment.SIMCLR_CIFAR.draw(100, 32, 32, 0).blur.any()


def test_different_decisions_are_independent():
    draws = augment.SIMCLR_IMAGENET.draw(MANY, 32, 32, 0)
    columns = [
        draws.flip,
        draws.jitter,
        draws.grayscale,
        draws.blur,
        draws.hue,
        draws.sigma,
        *draws.factors.T,
    ]
    correlation = torch.corrcoef(torch.stack([column.double() for column in columns]))
    assert (correlation - torch.eye(len(columns))).abs().max() < 5 / math.sqrt(MANY)


@pytest.mark.parametrize("strength", [0.5, 1.0, 1.6])
def test_jitter_is_uniform_in_its_range(strength):
    draws = Augmentation(strength=strength).draw(MANY, 32, 32, 1)
    low, high = max(0.0, 1 - 0.8 * strength), 1 + 0.8 * strength
    for factor in draws.factors.T:
        assert stats.kstest(factor.numpy(), stats.uniform(low, high - low).cdf).pvalue > 1e-3
    bound = 0.2 * strength
    assert stats.kstest(draws.hue.numpy(), stats.uniform(-bound, 2 * bound).cdf).pvalue > 1e-3
    assert stats.kstest(draws.sigma.numpy(), stats.uniform(0.1, 1.9).cdf).pvalue > 1e-3


def _crop_one(height, width, rng, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3)):
    """Inception-style cropping, one image: try ten times."""
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return rng.integers(height - h + 1), rng.integers(width - w + 1), h, w
    h, w = (height, round(height * ratio[1])) if width / height > ratio[1] else (height, width)
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize(("height", "width"), [(32, 32), (96, 96), (24, 60)])
def test_crops_are_those_of_the_plain_loop(height, width):
    crops = Augmentation().draw(MANY, height, width, 0).crop.numpy()
    rng = np.random.default_rng(0)
    plain = np.array([_crop_one(height, width, rng) for _ in range(4000)])
    for ours, theirs in zip(crops.T, plain.T, strict=True):
        assert stats.ks_2samp(ours, theirs).pvalue > 1e-3
    area, plain_area = crops[:, 2] * crops[:, 3], plain[:, 2] * plain[:, 3]
    assert stats.ks_2samp(area, plain_area).pvalue > 1e-3
    assert stats.ks_2samp(crops[:, 3] / crops[:, 2], plain[:, 3] / plain[:, 2]).pvalue > 1e-3
    assert (crops >= 0).all()
    assert (crops[:, 0] + crops[:, 2] <= height).all()
    assert (crops[:, 1] + crops[:, 3] <= width).all()


def test_where_no_crop_fits_the_largest_in_the_middle_is_taken():
    crop = Augmentation(crop_scale=(1.0, 1.0)).draw(50, 30, 100, 0).crop
    assert crop.tolist() == [[0, 30, 30, 40]] * 50
    crop = Augmentation(crop_scale=(1.0, 1.0)).draw(50, 100, 30, 0).crop
    assert crop.tolist() == [[30, 0, 40, 30]] * 50


def test_published_parameters():
    assert augment.SIMCLR_IMAGENET.size == (224, 224)
    assert (augment.SIMCLR_CIFAR.strength, augment.SIMCLR_CIFAR.blur) == (0.5, 0)
    assert Augmentation() == augment.SIMCLR_STL10


# What is refused


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"crop_scale": (0.9, 0.1)}, "crop_scale must go from low to high, not from 0.9 to 0.1"),
        ({"crop_scale": (0.9, 1.1)}, "crop_scale must not exceed 1"),
        ({"strength": 3.0}, "strength × hue must not exceed half a turn"),
        ({"flip": 1.5}, "Augmentation.flip = 1.5: must be less than or equal to 1"),
        ({"blur_kernel": 1.0}, "blur_kernel"),
    ],
)
def test_bad_recipes(values, words):
    with pytest.raises(ConfigError, match=words):
        Augmentation(**values)


def test_bad_images_and_draws():
    with pytest.raises(AugmentationError, match="1 or 3 channels"):
        MUCH(torch.zeros(4, 2, 8, 8), 0)
    with pytest.raises(AugmentationError, match="4 draws were given for 3 images"):
        MUCH.apply(torch.zeros(3, 3, 8, 8), MUCH.draw(4, 8, 8, 0))
    with pytest.raises(AugmentationError, match="larger than these of 7 × 8"):
        MUCH.apply(torch.zeros(30, 3, 7, 8), MUCH.draw(30, 8, 8, 0))
    draws = MUCH.draw(1, 8, 8, 0)
    with pytest.raises(AugmentationError, match=r"uint8, float32 or float64, not torch\.int64"):
        augment._check(torch.zeros(1, 3, 8, 8, dtype=torch.int64), draws)
