"""The closed form of the full-table loss and gradient against the plain table and autograd."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learndyn.cogo_li2 import algebra, full_table, network
from learndyn.cogo_li2.groups import AbelianGroup

GROUPS = [(2,), (5,), (6,), (11,), (2, 3), (4, 4), (2, 2, 2)]


def random_weights(group, nodes, seed, runs=()):
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(*runs, 3, nodes, group.size, generator=rng, dtype=torch.float64) / group.size**0.5


def plain(group, weights, held_out):
    """Full, held-out and train loss of one network and the gradient of the last, by autograd."""
    weights = weights.clone().requires_grad_(True)
    labels = group.addition_table()
    out = torch.zeros(group.size**2, dtype=torch.bool)
    out[held_out] = True
    out = out.reshape(labels.shape)
    outputs = network.forward(weights)
    full, held, train = (network.projected_mse(outputs, labels, cells) for cells in (None, out, ~out))
    return full.item(), held.item(), train.item(), torch.autograd.grad(train, weights)[0]


@settings(deadline=None, max_examples=40)
@given(
    orders=st.sampled_from(GROUPS),
    nodes=st.integers(1, 7),
    share=st.floats(0.05, 0.9),
    seed=st.integers(0, 99),
)
def test_closed_form_equals_the_table(orders, nodes, share, seed):
    group = AbelianGroup(orders)
    weights = random_weights(group, nodes, seed, runs=(2,))
    rng = torch.Generator().manual_seed(seed)
    cells = max(1, min(group.size**2 - 1, round(share * group.size**2)))
    held_out = torch.stack([torch.randperm(group.size**2, generator=rng)[:cells] for _ in range(2)])
    split = full_table.loss_and_gradient(weights, group, held_out)
    whole = full_table.loss_and_gradient(weights, group)
    for run in range(2):
        full, held, train, gradient = plain(group, weights[run], held_out[run])
        assert split.full_loss[run].item() == pytest.approx(full, rel=1e-11)
        assert split.held_out_loss[run].item() == pytest.approx(held, rel=1e-11)
        assert split.train_loss[run].item() == pytest.approx(train, rel=1e-11)
        torch.testing.assert_close(split.gradient[run], gradient, rtol=1e-9, atol=1e-11)
        *_, gradient = plain(group, weights[run], torch.tensor([], dtype=torch.long))
        torch.testing.assert_close(whole.gradient[run], gradient, rtol=1e-9, atol=1e-11)
        assert whole.train_loss[run] == whole.full_loss[run] == split.full_loss[run]
    assert whole.held_out_loss is None


def test_a_wrong_label_would_be_noticed():
    weights = random_weights(AbelianGroup((6,)), 5, 0)
    loss = full_table.loss_and_gradient(weights, AbelianGroup((6,))).full_loss
    other = full_table.loss_and_gradient(weights, AbelianGroup((2, 3))).full_loss
    assert abs(loss - other) > 1e-3  # Z_6 and Z_2 × Z_3 are the same group, numbered differently


def test_one_run_alone_is_that_run_of_an_ensemble():
    group = AbelianGroup((7,))
    weights = random_weights(group, 4, 1, runs=(2, 3))
    held_out = torch.randint(0, 49, (2, 3, 1))
    together = full_table.loss_and_gradient(weights, group, held_out)
    assert together.gradient.shape == weights.shape
    assert together.train_loss.shape == (2, 3)
    alone = full_table.loss_and_gradient(weights[1, 2], group, held_out[1, 2])
    torch.testing.assert_close(together.gradient[1, 2], alone.gradient)
    torch.testing.assert_close(together.train_loss[1, 2], alone.train_loss)


@pytest.mark.parametrize("size", [5, 23, 127])
def test_constructed_solution_has_no_loss_and_no_gradient(size):
    group = AbelianGroup((size,))
    spectrum = algebra.build(group, algebra.mixed(group, [1, 2]), host="all")
    result = full_table.loss_and_gradient(group.to_weights(spectrum), group)
    assert abs(result.full_loss.item()) < 1e-13
    assert result.gradient.abs().max() < 1e-13


def test_zero_network_and_no_held_out_cells():
    group = AbelianGroup((5,))
    result = full_table.loss_and_gradient(torch.zeros(3, 2, 5), group, torch.zeros(0, dtype=torch.long))
    assert result.full_loss.item() == pytest.approx(0.8)
    assert math.isnan(result.held_out_loss.item())
    assert result.gradient.abs().max() == 0


@pytest.mark.parametrize("noise", [1e-1, 1e-2, 1e-3])
@pytest.mark.parametrize("size", [23, 71])
def test_float32_is_good_enough_to_train_with(size, noise):
    group = AbelianGroup((size,))
    rng = torch.Generator().manual_seed(size)
    exact = group.to_weights(algebra.build(group, algebra.everywhere(group, algebra.ORDER_6)))
    exact = exact + noise * exact.std() * torch.randn(exact.shape, generator=rng, dtype=torch.float64)
    held_out = torch.randperm(size**2, generator=rng)[: math.ceil(0.1 * size**2)]
    weights = exact.float()
    wanted = full_table.loss_and_gradient(weights.double(), group, held_out)
    found = full_table.loss_and_gradient(weights, group, held_out)
    wide = full_table.loss_and_gradient(weights, group, held_out, table_dtype=torch.float64)
    assert found.gradient.dtype == wide.gradient.dtype == torch.float32
    # What matters is the error beside the pull of weight decay, which the gradient has to balance.
    pull = 5e-5 * weights.norm()
    assert (found.gradient - wanted.gradient).norm() < 5e-4 * pull
    assert (wide.gradient - wanted.gradient).norm() < 1e-4 * pull
    assert abs(found.full_loss - wanted.full_loss) < 1e-6
    assert abs(wide.full_loss - wanted.full_loss) < 1e-12


def test_float32_training_follows_the_float64_table():
    group = AbelianGroup((11,))
    closed, table = (
        random_weights(group, 48, 4).to(t).requires_grad_(True) for t in (torch.float32, torch.float64)
    )
    adams = [torch.optim.Adam([weights], lr=0.01, weight_decay=1e-3) for weights in (closed, table)]
    labels = group.addition_table()
    for _ in range(60):
        closed.grad = full_table.loss_and_gradient(closed.detach(), group).gradient
        table.grad = torch.autograd.grad(network.projected_mse(network.forward(table), labels), table)[0]
        for adam in adams:
            adam.step()
    torch.testing.assert_close(closed.double(), table, rtol=0, atol=1e-4)


def test_bad_input_is_refused_in_one_sentence():
    group = AbelianGroup((5,))
    with pytest.raises(ValueError, match=r"must end in \(3, nodes, 5\)"):
        full_table.loss_and_gradient(torch.zeros(3, 2, 6), group)
    with pytest.raises(ValueError, match="25 held-out cells leave nothing"):
        full_table.loss_and_gradient(torch.zeros(3, 2, 5), group, torch.arange(25))
