"""Sources of positive pairs: what a step sees, what identifies it, and how the pairs are made."""

import pytest
import torch
from scipy import stats

from learndyn.core import pairs as pairs_module
from learndyn.core.augment import SIMCLR_CIFAR, SIMCLR_STL10, Augmentation
from learndyn.core.device import generator
from learndyn.core.pairs import AugmentedPairs, FixedPairs, FreshNoisePairs, PairsError, PairSource

PLAIN = Augmentation(
    crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0.0, jitter=0.0, grayscale=0.0, blur=0.0
)


def _fixed(runs=None, seed=0, pairs=6):
    g = torch.Generator().manual_seed(seed)
    shape = (pairs, 5) if runs is None else (runs, pairs, 5)
    return FixedPairs(torch.randn(shape, generator=g), torch.randn(shape, generator=g))


def _numbered(images=10):
    """Images that are their own number: [image, 3, 4, 4] uint8."""
    return torch.arange(images, dtype=torch.uint8)[:, None, None, None].expand(-1, 3, 4, 4).contiguous()


def _augmented(**changes):
    values = {
        "images": _numbered(),
        "augmentation": PLAIN,
        "batch_size": 3,
        "seed": 1,
        "evaluation_pairs": _fixed(),
    }
    return AugmentedPairs(**(values | changes))


def _fresh(**changes):
    g = torch.Generator().manual_seed(0)
    values = {
        "images": torch.randn(10, 5, generator=g),
        "noise_sd": 0.5,
        "batch_size": 3,
        "seed": 1,
        "evaluation_pairs": _fixed(),
    }
    return FreshNoisePairs(**(values | changes))


def _seen(source, step):
    """Numbers of the images of a step of `_augmented`, checked to be the same in both views."""
    a, b = (view[:, 0, 0, 0].mul(255).round().long().tolist() for view in source.batch(step))
    assert a == b
    return a


@pytest.mark.parametrize("source", [_fixed(), _fixed(runs=2), _fresh(), _augmented()])
def test_every_source_keeps_the_protocol(source):
    assert isinstance(source, PairSource)
    moved = source.to("cpu")
    assert type(moved) is type(source)
    assert moved.identity == source.identity
    for ours, theirs in zip(moved.batch(3), source.batch(3), strict=True):
        assert torch.equal(ours, theirs)
    for ours, theirs in zip(moved.evaluation(), source.evaluation(), strict=True):
        assert torch.equal(ours, theirs)


def test_an_epoch_sees_each_image_at_most_once_and_drops_the_rest():
    source = _augmented()
    epochs = [[_seen(source, 3 * epoch + step) for step in range(3)] for epoch in range(40)]
    for epoch in epochs:
        numbers = [number for batch in epoch for number in batch]
        assert len(numbers) == len(set(numbers)) == 9
    assert len({str(epoch) for epoch in epochs}) == 40
    left_out = [set(range(10)).difference(*epoch).pop() for epoch in epochs]
    assert len(set(left_out)) > 5


@pytest.mark.parametrize("make", [_fresh, lambda **k: _augmented(augmentation=SIMCLR_CIFAR, **k)])
def test_a_batch_is_a_function_of_seed_and_step(make):
    state = torch.get_rng_state()
    source = make()
    forward = [source.batch(step) for step in range(8)]
    pairs_module._permutation.cache_clear()
    other = make()
    for step in (7, 0, 3, 3):
        for again, first in zip(other.batch(step), forward[step], strict=True):
            assert torch.equal(again, first)
    assert not torch.equal(make(seed=2).batch(0)[0], forward[0][0])
    assert len({str(views) for views in forward}) == 8
    assert torch.equal(torch.get_rng_state(), state)


def test_fresh_noise_is_independent_between_views_and_steps():
    images = torch.randn(400, 50, generator=torch.Generator().manual_seed(0))
    source = _fresh(images=images, batch_size=400, evaluation_pairs=_fixed())
    residuals = []
    for step in range(2):
        rows = pairs_module.batch_rows(400, 400, 1, step)
        residuals += [view - images[rows] for view in source.batch(step)]
    table = torch.stack([residual.flatten() for residual in residuals]).double()
    covariance = torch.cov(table)
    error = 5 / table.shape[1] ** 0.5
    torch.testing.assert_close(covariance, 0.25 * torch.eye(4, dtype=torch.float64), rtol=0, atol=error)
    assert stats.kstest(table[0].numpy(), stats.norm(0, 0.5).cdf).pvalue > 1e-3


def test_two_views_of_an_image_differ_and_are_replayed_by_the_stream_of_the_step():
    images = torch.randint(
        256, (20, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    source = _augmented(images=images, augmentation=SIMCLR_STL10, batch_size=8, seed=4)
    a, b = source.batch(5)
    assert a.shape == b.shape == (8, 3, 16, 16)
    assert (a - b).flatten(1).abs().amax(1).min() > 0.01
    rows = pairs_module.batch_rows(20, 8, 4, 5).repeat(2)
    draws = SIMCLR_STL10.draw(16, 16, 16, generator(4, "augmentation", 5))
    assert torch.equal(torch.cat([a, b]), SIMCLR_STL10.apply(images[rows], draws))


def test_nothing_waits_for_the_device():
    """On the meta device there are no values: whatever asked for one would fail."""
    for source in (_fresh(), _augmented(augmentation=SIMCLR_CIFAR), _fixed()):
        assert all(view.device.type == "meta" for view in source.to("meta").batch(4))


# Identity


def test_identity_is_that_of_content_and_parameters():
    changed = _numbered()
    changed[4, 1, 2, 3] += 1
    other_view = FixedPairs(_fixed().view_a, _fixed().view_b + 1e-6)
    sources = [
        _augmented(),
        _augmented(images=changed),
        _augmented(images=_numbered().view(10, 3, 2, 8)),
        _augmented(seed=2),
        _augmented(batch_size=4),
        _augmented(augmentation=SIMCLR_CIFAR),
        _augmented(evaluation_pairs=_fixed(seed=1)),
        _fresh(),
        _fresh(noise_sd=0.4),
        _fresh(seed=2),
        _fresh(batch_size=4),
        _fresh(images=torch.ones(10, 5)),
        _fresh(evaluation_pairs=_fixed(seed=1)),
        _fixed(),
        _fixed(seed=1),
        _fixed(runs=2),
        other_view,
        FixedPairs(_fixed().view_b, _fixed().view_a),
        FixedPairs(_fixed().view_a.double(), _fixed().view_b.double()),
    ]
    identities = [source.identity for source in sources]
    assert len(set(identities)) == len(identities)
    assert all("sha256=" in identity and "\n" not in identity for identity in identities)
    assert [_augmented().identity, _fresh().identity, _fixed().identity] == [
        identities[i] for i in (0, 7, 13)
    ]


def test_identity_does_not_depend_on_strides():
    one = _fixed()
    strided = FixedPairs(one.view_a.T.contiguous().T, one.view_b.T.contiguous().T)
    assert strided.identity == one.identity


# Fixed pairs and their run axis


def test_fixed_pairs_are_the_same_at_every_step():
    one = _fixed()
    for views in (one.batch(0), one.batch(99), one.evaluation()):
        assert views[0] is one.view_a
        assert views[1] is one.view_b
    assert (one.runs, one.pairs) == (None, 6)
    assert one.select([1]) is one


def test_stacked_pairs_have_a_run_axis_that_can_be_selected():
    parts = [_fixed(seed=seed) for seed in range(4)]
    stacked = pairs_module.stack_pairs(parts)
    assert (stacked.runs, stacked.pairs) == (4, 6)
    chosen = stacked.select([3, 1])
    assert chosen.runs == 2
    assert torch.equal(chosen.view_a, torch.stack([parts[3].view_a, parts[1].view_a]))
    assert torch.equal(chosen.view_b, torch.stack([parts[3].view_b, parts[1].view_b]))
    pictures = FixedPairs(torch.zeros(2, 3, 1, 4, 4), torch.zeros(2, 3, 1, 4, 4))
    assert (pictures.runs, pictures.pairs) == (2, 3)
    assert FixedPairs(torch.zeros(3, 1, 4, 4), torch.zeros(3, 1, 4, 4)).runs is None


def test_shared_sources_are_not_changed_by_a_choice_of_runs():
    for source in (_fresh(), _augmented()):
        assert source.runs is None
        assert source.select([2]) is source


# How pairs are made


def test_crops_lie_in_a_patch_of_the_right_photo():
    height, width, patch, crop, number = 17, 23, 9, 6, 3000
    index = torch.arange(height * width, dtype=torch.float64).view(1, 1, height, width)
    photos = torch.cat([index, index + 1000])  # a pixel is its own address
    made = pairs_module.crop_pairs(
        photos, pairs=number, patch=patch, crop=crop, generator=torch.Generator().manual_seed(0)
    )
    corners = []
    for view in (made.view_a, made.view_b):
        assert view.shape == (number, 1, crop, crop)
        corner = view[:, 0, 0, 0].long()
        assert torch.equal(corner // 1000, torch.arange(number) % 2)
        top, left = (corner % 1000) // width, (corner % 1000) % width
        for i in range(0, number, 50):
            expected = photos[i % 2, 0, top[i] : top[i] + crop, left[i] : left[i] + crop]
            assert torch.equal(view[i, 0], expected)
        corners.append(torch.stack([top, left]))
    offset = (corners[0] - corners[1]).abs()
    assert offset.amax(1).tolist() == [patch - crop] * 2
    assert torch.stack(corners).amin((0, 2)).tolist() == [0, 0]
    assert torch.stack(corners).amax((0, 2)).tolist() == [height - crop, width - crop]
    # A corner is the sum of two independent uniform numbers: of the patch and of the crop in it.
    for axis, side in enumerate((height, width)):
        places, offsets = side - patch + 1, patch - crop + 1
        expected = torch.zeros(places + offsets - 1, dtype=torch.float64)
        for place in range(places):
            expected[place : place + offsets] += number / (places * offsets)
        observed = torch.bincount(corners[0][axis], minlength=len(expected))
        assert stats.chisquare(observed.numpy(), expected.numpy()).pvalue > 1e-3
    difference = torch.corrcoef(torch.stack([corners[0][0], corners[0][1]]).double())[0, 1]
    assert abs(difference) < 5 / number**0.5


def test_noise_pairs():
    images = torch.randn(200, 40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    made = pairs_module.noise_pairs(images, noise_sd=0.3, generator=torch.Generator().manual_seed(0))
    noise = torch.stack([(view - images).flatten() for view in (made.view_a, made.view_b)])
    torch.testing.assert_close(
        torch.cov(noise), 0.09 * torch.eye(2, dtype=torch.float64), rtol=0, atol=5 * 0.09 / 8000**0.5
    )


def test_augmented_pairs_are_of_different_images_and_kept():
    made = pairs_module.augmented_pairs(
        _numbered(), PLAIN, pairs=7, generator=torch.Generator().manual_seed(0)
    )
    numbers = made.view_a[:, 0, 0, 0].mul(255).round().tolist()
    assert len(set(numbers)) == 7
    assert torch.equal(made.view_a, made.view_b)


def test_shuffled_pairs_are_the_same_views_in_other_company():
    one = _fixed(pairs=50)
    made = pairs_module.shuffled_pairs(one, torch.Generator().manual_seed(0))
    assert torch.equal(made.view_a, one.view_a)
    matches = (made.view_b[:, None] == one.view_b[None]).all(-1)
    assert (matches.sum(0) == 1).all()
    assert (matches.sum(1) == 1).all()
    assert matches.diagonal().sum() < 5
    per_run = pairs_module.shuffled_pairs(_fixed(runs=2, pairs=50), torch.Generator().manual_seed(0))
    orders = [
        (run[:, None] == before[None]).all(-1).int().argmax(1)
        for run, before in zip(per_run.view_b, _fixed(runs=2, pairs=50).view_b, strict=True)
    ]
    assert all(torch.equal(order.sort().values, torch.arange(50)) for order in orders)
    assert not torch.equal(*orders)


# What is refused


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: _augmented(batch_size=11), "batch_size must be from 1 to the number of images, 10, not 11"),
        (lambda: _fresh(batch_size=0), "not 0"),
        (lambda: _fresh(evaluation_pairs=_fixed(runs=2)), "need evaluation pairs without a run axis"),
        (lambda: FixedPairs(torch.zeros(2, 3), torch.zeros(3, 3)), r"different shapes, float32\[2, 3\] and"),
        (lambda: FixedPairs(torch.zeros(2), torch.zeros(2)), r"not float32\[2\]"),
        (lambda: pairs_module.stack_pairs([]), "not none"),
        (lambda: pairs_module.stack_pairs([_fixed(), _fixed(pairs=7)]), "only pairs of one shape"),
        (lambda: pairs_module.stack_pairs([_fixed(runs=2)]), "without runs"),
        (
            lambda: pairs_module.crop_pairs(
                torch.zeros(1, 3, 8, 9), pairs=2, patch=9, crop=4, generator=torch.Generator()
            ),
            "it takes 1 ≤ crop ≤ patch ≤ 8",
        ),
        (
            lambda: pairs_module.augmented_pairs(_numbered(), PLAIN, pairs=11, generator=torch.Generator()),
            "11 pairs were asked for, but there are only 10 images",
        ),
    ],
)
def test_refusals(make, words):
    with pytest.raises(PairsError, match=words):
        make()
