"""The fast step against the plain network, and the plain network against loops."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learndyn.cogo_li2 import network
from learndyn.cogo_li2.groups import AbelianGroup
from learndyn.cogo_li2.step import GridStep

ACTIVATIONS = ("sqr", "relu", "silu", "relusqr")
LOSSES = ("projected_mse", "cross_entropy")
SCALAR = {
    "sqr": lambda x: x * x,
    "relu": lambda x: max(x, 0.0),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "relusqr": lambda x: max(x, 0.0) ** 2,
}


def _by_loops(weights, labels, cells, activation, loss):
    """Loss and accuracy of one network over the given cells, in plain Python."""
    (a, b, c), d = weights.tolist(), labels.shape[0]
    total, right = 0.0, 0
    for x, y in cells:
        hidden = [SCALAR[activation](a[j][x] + b[j][y]) for j in range(len(a))]
        out = [sum(c[j][z] * hidden[j] for j in range(len(a))) for z in range(d)]
        label = int(labels[x, y])
        if loss == "projected_mse":
            mean = sum(out) / d
            total += sum((o - mean - (z == label) + 1 / d) ** 2 for z, o in enumerate(out))
        else:
            total += math.log(sum(math.exp(o) for o in out)) - out[label]
        right += out.index(max(out)) == label
    return total / len(cells), right / len(cells)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_network_against_loops(activation, loss):
    group, g = AbelianGroup((2, 3)), torch.Generator().manual_seed(3)
    weights = torch.randn(3, 4, 6, generator=g, dtype=torch.float64)
    cells = torch.rand(6, 6, generator=g) < 0.6
    labels = group.addition_table()
    outputs = network.forward(weights, activation)
    for chosen in (cells, None):
        pairs = (torch.ones(6, 6) if chosen is None else chosen).nonzero().tolist()
        value, share = _by_loops(weights, labels, pairs, activation, loss)
        assert float(getattr(network, loss)(outputs, labels, chosen)) == pytest.approx(value, abs=1e-12)
        assert float(network.accuracy(outputs, labels, chosen)) == pytest.approx(share)


def test_known_answers_of_the_zero_function():
    group = AbelianGroup((7,))
    step = GridStep(group.addition_table(), None, runs=1)
    _, metrics = step(torch.zeros(1, 3, 7, 5), metrics=True)
    assert float(metrics.train_loss) == pytest.approx(6 / 7)
    assert metrics.test_loss.isnan().all()
    step = GridStep(group.addition_table(), None, runs=1, loss="cross_entropy")
    assert float(step(torch.zeros(1, 3, 7, 5), metrics=True)[1].train_loss) == pytest.approx(math.log(7))


def _random_case(orders, runs, nodes, seed, share=0.7):
    g = torch.Generator().manual_seed(seed)
    group = AbelianGroup(orders)
    weights = torch.randn(runs, 3, nodes, group.size, generator=g, dtype=torch.float64)
    mask = torch.rand(runs, group.size, group.size, generator=g) < share
    mask[:, 0, 0], mask[:, 0, 1] = True, False  # each run has cells of both kinds
    return group, weights, mask


def _check(group, weights, mask, activation, loss, block, tolerance=1e-11):
    step = GridStep(
        group.addition_table(),
        mask,
        runs=len(weights),
        activation=activation,
        loss=loss,
        dtype=weights.dtype,
        block_elements=block,
    )
    gradient, metrics = step(weights.mT.contiguous(), metrics=True)
    exact = weights.double().requires_grad_()
    outputs, labels = network.forward(exact, activation), group.addition_table()
    losses = getattr(network, loss)(outputs, labels, mask)
    (wanted,) = torch.autograd.grad(losses.sum(), exact)
    close = {"atol": tolerance, "rtol": tolerance, "check_dtype": False}
    torch.testing.assert_close(gradient.mT, wanted, **close)
    torch.testing.assert_close(metrics.train_loss, losses.detach(), **close)
    outputs = outputs.detach()
    torch.testing.assert_close(metrics.train_accuracy, network.accuracy(outputs, labels, mask), **close)
    if mask is not None:
        torch.testing.assert_close(metrics.test_loss, getattr(network, loss)(outputs, labels, ~mask), **close)
        torch.testing.assert_close(metrics.test_accuracy, network.accuracy(outputs, labels, ~mask), **close)


@settings(deadline=None, max_examples=60)
@given(
    orders=st.sampled_from([(2,), (5,), (2, 3), (4, 2), (7,), (3, 3)]),
    runs=st.integers(1, 4),
    nodes=st.integers(1, 9),
    activation=st.sampled_from(ACTIVATIONS),
    loss=st.sampled_from(LOSSES),
    block=st.sampled_from([None, 1, 100, 500, 2000]),
    masked=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_step_against_autograd(orders, runs, nodes, activation, loss, block, masked, seed):
    group, weights, mask = _random_case(orders, runs, nodes, seed)
    _check(group, weights, mask if masked else None, activation, loss, block)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_step_in_float32_at_working_size(activation, loss):
    group, weights, mask = _random_case((23,), 3, 128, seed=1)
    _check(group, (weights / 5).float(), mask, activation, loss, None, tolerance=2e-5)


def test_a_wrong_gradient_would_be_seen():
    group, weights, mask = _random_case((5,), 1, 3, seed=1)
    step = GridStep(group.addition_table(), mask, runs=1, dtype=torch.float64)
    step.minus_slope = step.minus_slope * (1 + 1e-6)
    gradient = step(weights.mT.contiguous())[0].clone()
    step.minus_slope = step.minus_slope / (1 + 1e-6)
    assert (gradient - step(weights.mT.contiguous())[0]).abs().max() > 1e-9


def test_blocks_change_nothing_and_runs_can_be_taken_away():
    group, weights, mask = _random_case((7,), 5, 6, seed=2)
    given_weights = weights.mT.contiguous()
    step = GridStep(group.addition_table(), mask, runs=5, dtype=torch.float64)
    whole, metrics = step(given_weights, metrics=True)
    whole = whole.clone()
    kept = torch.tensor([4, 0, 2])
    step.take_runs(kept)
    part, part_metrics = step(given_weights[kept][..., :4].contiguous(), metrics=True)
    assert part.shape == (3, 3, 7, 4)
    part, part_metrics = step(given_weights[kept], metrics=True)
    torch.testing.assert_close(part, whole[kept], atol=1e-13, rtol=0)
    torch.testing.assert_close(part_metrics.test_loss, metrics.test_loss[kept])


@pytest.mark.parametrize("block_elements", [None, 200])
def test_padding_costs_nothing_and_changes_nothing(block_elements):
    group, g = AbelianGroup((5,)), torch.Generator().manual_seed(4)
    mask = torch.rand(3, 5, 5, generator=g) < 0.7
    weights = torch.randn(3, 3, 5, 16, generator=g, dtype=torch.float64)
    widths = (16, 8, 4)
    for run, width in enumerate(widths):
        weights[run, ..., width:] = 0
    options = {"runs": 3, "dtype": torch.float64, "block_elements": block_elements}
    padded, tight = (GridStep(group.addition_table(), mask, **options) for _ in range(2))
    expected, metrics = padded(weights, metrics=True)
    gradient, same = tight(weights, metrics=True, widths=widths)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(tuple(same), tuple(metrics), rtol=1e-13, atol=0)
    tight(weights, widths=(16, 16, 16))[0].fill_(1.0)  # the buffer is the caller's until the next call
    fewer, _ = tight(weights, widths=widths)
    for run, width in enumerate(widths):
        assert float(fewer[run, ..., width:].abs().max() if width < 16 else 0) == 0
