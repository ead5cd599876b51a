"""Products of an ensemble against float64 and autograd."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learndyn.core import products


def _draw(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


SIZES = st.integers(1, 9)


@given(st.integers(1, 3), SIZES, SIZES, SIZES, st.booleans(), st.booleans(), st.booleans())
@settings(max_examples=40)
def test_a_product_is_that_of_float64_whatever_the_order_of_axes(runs, n, k, m, flip_a, flip_b, with_bias):
    a = _draw(runs, k, n).mT if flip_a else _draw(runs, n, k)
    b = _draw(runs, m, k, seed=1).mT if flip_b else _draw(runs, k, m, seed=1)
    bias = _draw(runs, m, seed=2) if with_bias else None
    found = products.product(a, b, bias)
    wanted = torch.einsum("rnk,rkm->rnm", a.double(), b.double())
    if bias is not None:
        wanted = wanted + bias.double()[:, None]
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("runs", [1, 3])
def test_gradients_of_a_linear_layer_are_those_of_autograd(dtype, runs):
    inputs = [_draw(runs, 7, 5, dtype=dtype), _draw(runs, 5, 4, dtype=dtype), _draw(runs, 4, dtype=dtype)]
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    ours = [t.clone().requires_grad_() for t in inputs]
    theirs = [t.double().requires_grad_() for t in inputs]
    weights = _draw(runs, 7, 4, dtype=torch.float64, seed=3)
    found = torch.autograd.grad((products.linear(*ours) * weights).sum(), ours)
    x, w, b = theirs
    wanted = torch.autograd.grad(((x @ w + b[:, None]) * weights).sum(), theirs)
    for left, right in zip(found, wanted, strict=True):
        torch.testing.assert_close(left.double(), right, rtol=tolerance, atol=tolerance)


def test_without_the_kernel_the_result_is_the_same(monkeypatch):
    a, b, bias = _draw(2, 20, 30), _draw(2, 30, 40, seed=1), _draw(2, 40, seed=2)
    fast = products.product(a, b, bias), products.linear(a, b, bias)
    monkeypatch.setattr(products, "_KERNEL", None)
    for left, right in zip(fast, (products.product(a, b, bias), products.linear(a, b, bias)), strict=True):
        torch.testing.assert_close(left, right, rtol=1e-5, atol=1e-5)


def test_autocast_computes_in_its_type():
    a, b, bias = _draw(1, 4, 8), _draw(1, 8, 3), _draw(1, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert products.product(a, b, bias).dtype == products.linear(a, b, bias).dtype == torch.bfloat16
