"""Groups and Fourier coordinates, against the definitions written out in loops."""

import cmath
import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learndyn.cogo_li2.groups import AbelianGroup

GROUPS = [(5,), (6,), (7,), (2, 2), (3, 4), (2, 2, 2), (4, 4), (23,)]


def plain_character(orders, k, x):
    elements = list(itertools.product(*(range(n) for n in orders)))
    phase = sum(kt * xt / n for kt, xt, n in zip(elements[k], elements[x], orders, strict=True))
    return cmath.exp(2j * math.pi * phase)


@pytest.mark.parametrize("orders", GROUPS)
def test_addition_and_negation_follow_the_coordinates(orders):
    group = AbelianGroup(orders)
    elements = list(itertools.product(*(range(n) for n in orders)))
    table = group.addition_table()
    for i, x in enumerate(elements):
        inverse = tuple((-xt) % n for xt, n in zip(x, orders, strict=True))
        assert group.neg(i).item() == elements.index(inverse)
        for j, y in enumerate(elements):
            total = tuple((xt + yt) % n for xt, yt, n in zip(x, y, orders, strict=True))
            assert table[i, j].item() == elements.index(total)
    assert group.coordinates().tolist() == [list(x) for x in elements]


@pytest.mark.parametrize("orders", GROUPS)
def test_characters_are_homomorphisms_and_orthogonal(orders):
    group = AbelianGroup(orders)
    phi, d = group.character_table(), group.size
    for k in range(0, d, 3):
        for x in range(0, d, 2):
            assert abs(phi[k, x].item() - plain_character(orders, k, x)) < 1e-13
    torch.testing.assert_close(phi @ phi.mH, d * torch.eye(d, dtype=torch.complex128), atol=1e-11, rtol=0)
    torch.testing.assert_close(phi[:, group.addition_table()], phi[:, :, None] * phi[:, None, :])
    torch.testing.assert_close(phi[group.neg(torch.arange(d))], phi.conj())


@pytest.mark.parametrize(
    ("orders", "count", "special"),
    [((7,), 3, 0), ((6,), 3, 1), ((2, 2), 3, 3), ((4, 4), 9, 3), ((3, 5), 7, 0)],
)
def test_half_lists_each_pair_once(orders, count, special):
    group = AbelianGroup(orders)
    half = group.half()
    assert len(half.characters) == count
    assert half.self_conjugate.sum() == special
    covered = set(half.characters.tolist()) | set(group.neg(half.characters).tolist())
    assert covered == set(range(1, group.size))


def test_orders_of_characters():
    group = AbelianGroup((4, 6))
    for k in range(group.size):
        n = next(n for n in range(1, 25) if group.multiple(k, n).item() == 0)
        assert group.order_of(k) == n
    assert group.label(7) == "(1, 1)"
    assert AbelianGroup((23,)).label(7) == "7"


@pytest.mark.parametrize("orders", [(5,), (6,), (2, 3), (2, 2, 2)])
def test_spectrum_is_the_definition(orders):
    group, d = AbelianGroup(orders), math.prod(orders)
    weights = torch.randn(2, 3, 4, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    spectrum = group.to_spectrum(weights)
    for run, part, node, k in itertools.product(range(2), range(3), range(4), range(d)):
        sign = 1 if part == 2 else -1
        plain = sum(
            weights[run, part, node, x].item() * plain_character(orders, k, x) ** sign for x in range(d)
        )
        assert abs(spectrum[run, part, node, k].item() - plain / d) < 1e-14


@settings(deadline=None, max_examples=25)
@given(
    orders=st.sampled_from(GROUPS),
    nodes=st.integers(0, 9),
    dtype=st.sampled_from([torch.float32, torch.float64]),
    seed=st.integers(0, 10**6),
)
def test_round_trip(orders, nodes, dtype, seed):
    group = AbelianGroup(orders)
    generator = torch.Generator().manual_seed(seed)
    weights = torch.randn(3, nodes, group.size, dtype=dtype, generator=generator)
    torch.testing.assert_close(group.to_weights(group.to_spectrum(weights)), weights)


def test_bad_input_is_one_sentence():
    for orders in ((), (1,), (5, 0)):
        with pytest.raises(ValueError, match="at least 2"):
            AbelianGroup(orders)
    with pytest.raises(ValueError, match="must end in"):
        AbelianGroup((5,)).to_spectrum(torch.zeros(3, 2, 6))
    lopsided = torch.zeros(3, 1, 5, dtype=torch.complex128)
    lopsided[0, 0, 1] = 1
    with pytest.raises(ValueError, match="not Hermitian"):
        AbelianGroup((5,)).to_weights(lopsided)
