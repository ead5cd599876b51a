"""The blockwise tangent kernel against the explicit Jacobian and closed forms."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from learndyn.core import tangent_kernel as tk


def _filled(network, seed=0):
    """Every parameter and running statistic drawn anew, in float64."""
    g = torch.Generator().manual_seed(seed)
    network = network.double()
    with torch.no_grad():
        for p in network.parameters():
            p.copy_(torch.randn(p.shape, generator=g, dtype=torch.float64) / max(1, p.shape[-1]) ** 0.5)
        for name, buffer in network.named_buffers():
            if name.endswith("running_var"):
                buffer.copy_(0.5 + torch.rand(buffer.shape, generator=g, dtype=torch.float64))
            elif name.endswith("running_mean"):
                buffer.copy_(torch.randn(buffer.shape, generator=g, dtype=torch.float64))
    return network.eval()


class _Both(nn.Module):
    """Returns (embedding, representation) as the networks of the book."""

    def __init__(self, body, head):
        super().__init__()
        self.body, self.head = body, head

    def forward(self, x):
        representation = self.body(x)
        return self.head(representation), representation


def _mlp():
    network = _Both(nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 6), nn.ReLU()), nn.Linear(6, 3))
    inputs = torch.randn(9, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return _filled(network), inputs


def _convolutional():
    body = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(inplace=True),
        nn.Conv2d(4, 3, 3, stride=2),
        nn.BatchNorm2d(3),
        nn.Flatten(),
    )
    inputs = torch.randn(6, 2, 5, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return _filled(_Both(body, nn.Linear(12, 4, bias=False))), inputs


def _explicit(network, inputs, outputs=None, pick=0):
    """The kernel from `torch.autograd.functional.jacobian` of all outputs of all samples at once."""
    names = [name for name, p in network.named_parameters() if p.requires_grad]

    def embed(*parameters):
        return functional_call(network, dict(zip(names, parameters, strict=True)), (inputs,))[pick]

    parameters = tuple(p.detach() for p in network.parameters() if p.requires_grad)
    jacobians = torch.autograd.functional.jacobian(embed, parameters)
    rows = torch.cat([j.flatten(2) for j in jacobians], -1)  # [sample, output, parameter]
    rows = rows if outputs is None else rows[:, outputs]
    return torch.einsum("iop,jop->ij", rows, rows) / rows.shape[1]


@pytest.mark.parametrize("make", [_mlp, _convolutional])
@pytest.mark.parametrize("outputs", [None, [1], [2, 0]])
def test_kernel_is_that_of_the_explicit_jacobian(make, outputs):
    network, inputs = make()
    expected = _explicit(network, inputs, outputs)
    ours = tk.tangent_kernel(network, inputs, outputs=outputs)
    assert torch.allclose(ours, expected, rtol=1e-10, atol=1e-10 * expected.abs().max())


@pytest.mark.parametrize("make", [_mlp, _convolutional])
def test_another_output_can_be_picked(make):
    network, inputs = make()
    ours = tk.tangent_kernel(network, inputs, output=lambda both: both[1])
    expected = _explicit(network, inputs, pick=1)
    assert torch.allclose(ours, expected, rtol=1e-10, atol=1e-10 * expected.abs().max())


@pytest.mark.parametrize("make", [_mlp, _convolutional])
@pytest.mark.parametrize(("columns", "samples_at_once"), [(13, 64), (60, 4), (200, 1), (500, 4)])
def test_blocks_do_not_change_the_kernel(make, columns, samples_at_once):
    network, inputs = make()
    whole = tk.tangent_kernel(network, inputs)
    blocks = tk.tangent_kernel(
        network, inputs, block_bytes=8 * len(inputs) * columns, samples_at_once=samples_at_once
    )
    assert torch.allclose(blocks, whole, rtol=1e-12, atol=1e-12 * whole.abs().max())


@given(
    sizes=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    width=st.integers(1, 40),
)
@settings(max_examples=50)
def test_pieces_cover_every_entry_once_within_the_width(sizes, width):
    parameters = {str(i): torch.zeros(size) for i, size in enumerate(sizes)}
    for block in tk._blocks(parameters, width):
        assert 0 < sum(stop - start for _, start, stop in block) <= width
        for name, start, stop in block:
            parameters[name][start:stop] += 1
    assert all((count == 1).all() for count in parameters.values())


class _Largest(TorchDispatchMode):
    """Bytes of the largest tensor that any operation returned."""

    bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, torch.Tensor):
                self.bytes = max(self.bytes, leaf.numel() * leaf.element_size())
        return result


def test_no_tensor_is_larger_than_the_block():
    """8 samples of a network with 45 600 parameters and 4 outputs: the whole Jacobian has 11.7 MB."""
    network = _filled(
        _Both(nn.Sequential(nn.Linear(20, 200), nn.ReLU(), nn.Linear(200, 200)), nn.Linear(200, 4))
    )
    inputs = torch.randn(8, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    whole = 8 * 8 * 4 * sum(p.numel() for p in network.parameters())
    peak = {}
    for bound in (400_000, 1_000_000, 2 * whole):
        with _Largest() as largest:
            tk.tangent_kernel(network, inputs, block_bytes=bound)
        peak[bound] = largest.bytes
    assert peak[400_000] <= 400_000
    assert peak[1_000_000] <= 1_000_000
    assert whole <= peak[2 * whole] <= 2 * whole  # the measurement does see the block


def test_two_layer_linear_network_has_its_closed_form():
    """f = W₂ W₁ x: K(x, x') = x·x' |W₂|²_F / d + (W₁x)·(W₁x')."""
    network = _filled(nn.Sequential(nn.Linear(6, 10, bias=False), nn.Linear(10, 4, bias=False)))
    x = torch.randn(12, 6, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    first, second = network[0].weight.detach(), network[1].weight.detach()
    hidden = x @ first.T
    expected = x @ x.T * second.square().sum() / 4 + hidden @ hidden.T
    assert torch.allclose(tk.tangent_kernel(network, x), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("make", [_mlp, _convolutional])
def test_kernel_is_symmetric_and_positive(make):
    network, inputs = make()
    kernel = tk.tangent_kernel(network, torch.cat([inputs, inputs]))  # doubled samples: half the rank
    eigenvalues = torch.linalg.eigvalsh(kernel)
    assert torch.equal(kernel, kernel.mT)
    assert eigenvalues.min() >= -1e-12 * eigenvalues.max()
    assert (eigenvalues > 1e-10 * eigenvalues.max()).sum() <= len(inputs)


def test_float32_network_with_float64_sums():
    network, inputs = _convolutional()
    expected = tk.tangent_kernel(network, inputs)
    ours = tk.tangent_kernel(network.float(), inputs.float())
    assert ours.dtype == torch.float64
    assert torch.allclose(ours, expected, rtol=1e-4, atol=1e-5 * expected.abs().max())
    assert tk.tangent_kernel(network, inputs.float(), dtype=torch.float32).dtype == torch.float32


def test_parameters_that_are_not_trained_do_not_count():
    network, inputs = _mlp()
    network.head.bias.requires_grad_(False)
    expected = _explicit(network, inputs)
    assert torch.allclose(tk.tangent_kernel(network, inputs), expected, rtol=1e-10, atol=1e-10)
    network.head.bias.requires_grad_(True)
    # f = W h + b: ∂f_o/∂b_p = δ_op, so the bias adds 1 to every entry.
    assert torch.allclose(tk.tangent_kernel(network, inputs), expected + 1, rtol=1e-10, atol=1e-10)


def test_network_is_left_as_it_was():
    network, inputs = _convolutional()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    tk.tangent_kernel(network, inputs)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def _training():
    network, inputs = _convolutional()
    network.train()
    return tk.tangent_kernel(network, inputs)


def _without_statistics():
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False)).eval()
    return tk.tangent_kernel(network, torch.ones(2, 3))


def _dropping():
    return tk.tangent_kernel(nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.5)), torch.ones(2, 3))


def _frozen():
    network, inputs = _mlp()
    return tk.tangent_kernel(network.requires_grad_(False), inputs)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (_training, r"batch normalisation 'body.1' uses .* network.eval\(\)"),
        (_without_statistics, "batch normalisation '1'"),
        (_dropping, "dropout '1' is in training mode"),
        (_frozen, "no parameters"),
        (lambda: tk.tangent_kernel(*_mlp(), outputs=[3]), r"outputs \[3\] .* 0 to 2"),
        (lambda: tk.tangent_kernel(*_mlp(), outputs=[]), r"outputs \[\]"),
        (lambda: tk.tangent_kernel(*_mlp(), block_bytes=71), "block_bytes = 71 .* need 72 bytes"),
    ],
)
def test_bad_input_is_one_sentence(call, words):
    with pytest.raises(tk.TangentKernelError, match=words) as error:
        call()
    assert "\n" not in str(error.value)
