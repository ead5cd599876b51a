"""The batched Transformer against torch.nn.TransformerEncoder, autograd and plain loops."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch_transformer import TorchModel

from learndyn.core import transformer

COLUMNS, LENGTH, VOCABULARY, RUNS = 3, 7, 23, 2
ARCHITECTURES = [
    transformer.Architecture(VOCABULARY, layers, heads, 8, 10) for layers in (1, 2) for heads in (1, 2)
]


def parameters(architecture, dtype=torch.float64, runs=RUNS, **options):
    """Stacked parameters of a few seeds, with biases that are not 0 and norms that are not 1."""
    each = [transformer.initial_parameters(architecture, seed, **options) for seed in range(runs)]
    g = torch.Generator().manual_seed(5)
    stacked = {name: torch.stack([run[name] for run in each]).to(dtype) for name in each[0]}
    for name, tensor in stacked.items():
        if name.endswith("bias") or ".attention_norm." in name or ".hidden_norm." in name:
            tensor += 0.3 * torch.randn(tensor.shape, generator=g, dtype=torch.float64).to(dtype)
    return stacked


def tokens(columns=COLUMNS, length=LENGTH):
    drawn = torch.randint(VOCABULARY, (columns, length + 1), generator=torch.Generator().manual_seed(1))
    return drawn[:, :-1], drawn[:, 1:]


def all_gradients(architecture, ours, inputs, targets, **options):
    """Losses and every gradient, put together as the trainer does."""
    separate = ("embedding", *transformer.DECODER)
    layers = {name: p.clone().requires_grad_() for name, p in ours.items() if name not in separate}
    embedded = transformer.embed(ours["embedding"], inputs).requires_grad_()
    hidden = transformer.encode(layers, embedded, architecture, inputs.shape[1], options.get("masks"))
    decoder = transformer.decoder_gradients(
        hidden.detach(), ours["decoder.weight"], ours["decoder.bias"], targets.flatten(), losses=True
    )
    first, *rest = torch.autograd.grad(hidden, [embedded, *layers.values()], decoder.hidden)
    found = dict(zip(layers, rest, strict=True))
    found["embedding"] = transformer.embedding_gradient(first, inputs, architecture.vocabulary)
    return decoder.loss, found | {"decoder.weight": decoder.weight, "decoder.bias": decoder.bias}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda a: f"{a.layers}layers{a.heads}heads")
def test_output_loss_and_gradients_are_those_of_torchs_encoder(architecture, dtype):
    ours = parameters(architecture, dtype, identical_layers=False)
    inputs, targets = tokens()
    rtol, atol = (1e-9, 1e-12) if dtype == torch.float64 else (1e-4, 1e-6)
    hidden = transformer.encode(ours, transformer.embed(ours["embedding"], inputs), architecture, LENGTH)
    loss, gradients = all_gradients(architecture, ours, inputs, targets)
    for run in range(RUNS):
        model = TorchModel(architecture, ours, run)
        output = model(inputs)
        torch.testing.assert_close(hidden[run].double(), output.flatten(0, 1), rtol=rtol, atol=atol * 1e1)
        wanted = nn.functional.cross_entropy(model.decoder(output).flatten(0, 1), targets.flatten())
        torch.testing.assert_close(loss[run].double(), wanted, rtol=rtol, atol=atol)
        wanted.backward()
        named = model.named(architecture)
        assert named.keys() == gradients.keys()
        for name, gradient in gradients.items():
            theirs = named[name].grad
            theirs = theirs.mT if theirs.ndim == 2 and name != "embedding" else theirs
            torch.testing.assert_close(gradient[run].double(), theirs, rtol=rtol, atol=atol, msg=name)


def plain_layer(parameters, x, masks, run):
    """One layer of one head for one column, token by token; masks as ``[query, key]`` and ``[token, …]``."""
    p = {name: tensor[run].numpy() for name, tensor in parameters.items()}
    d = x.shape[1]

    def norm(v, name):
        centred = (v - v.mean()) / np.sqrt(v.var() + 1e-5)
        return centred * p[f"0.{name}.weight"] + p[f"0.{name}.bias"]

    joint = [v @ p["0.attention_in.weight"] + p["0.attention_in.bias"] for v in x]
    out = []
    for t in range(len(x)):
        scores = np.array([joint[t][:d] @ joint[s][d : 2 * d] / np.sqrt(d) for s in range(t + 1)])
        weights = np.exp(scores) / np.exp(scores).sum() * masks["attention"][t, : t + 1]
        mixed = sum(w * joint[s][2 * d :] for s, w in enumerate(weights))
        branch = mixed @ p["0.attention_out.weight"] + p["0.attention_out.bias"]
        y = norm(x[t] + branch * masks["attention_branch"][t], "attention_norm")
        units = np.maximum(y @ p["0.hidden_in.weight"] + p["0.hidden_in.bias"], 0) * masks["hidden"][t]
        branch = units @ p["0.hidden_out.weight"] + p["0.hidden_out.bias"]
        out.append(norm(y + branch * masks["hidden_branch"][t], "hidden_norm"))
    return np.array(out)


def test_dropout_acts_where_it_should():
    architecture = transformer.Architecture(VOCABULARY, 1, 1, 6, 5)
    ours = parameters(architecture)
    inputs, _ = tokens()
    masks = transformer.Dropout([3, 4], [0.4, 0.2], torch.float64, torch.device("cpu")).masks(
        9, architecture, COLUMNS, LENGTH
    )
    embedded = transformer.embed(ours["embedding"], inputs)
    found = transformer.encode(ours, embedded, architecture, LENGTH, masks).view(RUNS, COLUMNS, LENGTH, -1)
    positions = transformer.sinusoidal_positions(LENGTH, 6, torch.float64)
    for run in range(RUNS):
        for column in range(COLUMNS):
            rows = slice(column * LENGTH, (column + 1) * LENGTH)
            x = embedded[run, rows] * math.sqrt(6) + positions
            own = {
                name: getattr(masks.layers[0], name)[run, rows].numpy()
                for name in ("attention_branch", "hidden", "hidden_branch")
            }
            own["attention"] = masks.layers[0].attention[run * COLUMNS + column].numpy()
            wanted = plain_layer(ours, (x * masks.embedding[run, rows]).numpy(), own, run)
            np.testing.assert_allclose(found[run, column], wanted, rtol=1e-9, atol=1e-10)


def test_masks_keep_the_expectation_and_depend_on_seed_and_step_only():
    architecture = transformer.Architecture(VOCABULARY, 2, 1, 32, 48)
    seeds, rates = [7, 8, 7, 9], [0.3, 0.5, 0.3, 0.0]

    def flat(masks, run):
        parts = [masks.embedding]
        for layer in masks.layers:
            parts += [layer.attention.view(-1, 20 * 35, 35), layer.attention_branch]
            parts += [layer.hidden, layer.hidden_branch]
        return torch.cat([part[run].flatten() for part in parts])

    def drawn(step, runs=range(4)):
        own = transformer.Dropout(
            [seeds[r] for r in runs], [rates[r] for r in runs], torch.float64, torch.device("cpu")
        )
        return own.masks(step, architecture, 20, 35)

    masks = drawn(5)
    for run, rate in enumerate(rates):
        values = flat(masks, run)
        n = len(values)
        assert abs(values.mean() - 1) <= 5 * math.sqrt(rate / (1 - rate) / n)
        if rate:
            dropped = round(rate * 2**16) / 2**16
            assert values.unique().tolist() == pytest.approx([0, 1 / (1 - dropped)], rel=1e-12)
            # neighbouring draws are not correlated, as they would be if words were cut wrongly
            kept = (values > 0).double() - (1 - dropped)
            for lag in (1, 2, 3, 4):
                assert abs((kept[lag:] * kept[:-lag]).mean()) < 5 * dropped * (1 - dropped) / math.sqrt(n)
    assert torch.equal(flat(masks, 0), flat(masks, 2))
    assert torch.equal(flat(drawn(5), 1), flat(masks, 1))
    assert not torch.equal(flat(drawn(6), 1), flat(masks, 1))
    for run in range(3):
        assert torch.equal(flat(drawn(5, [run]), 0), flat(masks, run))
    assert drawn(5, [3]) is None


@pytest.mark.parametrize(("block_bytes", "min_rows"), [(1, 5), (2**22, 128)])
@pytest.mark.parametrize("runs", [1, 3])
def test_gradients_of_the_loss_are_those_of_autograd(block_bytes, min_rows, runs, monkeypatch):
    monkeypatch.setitem(transformer._BLOCK_BYTES, "cpu", block_bytes)
    monkeypatch.setattr(transformer, "_MIN_BLOCK_ROWS", min_rows)
    g = torch.Generator().manual_seed(2)
    shapes = [(runs, 33, 6), (runs, 6, VOCABULARY), (runs, VOCABULARY)]
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 1e-5)):
        inputs = [torch.randn(s, generator=g, dtype=torch.float64).to(dtype) for s in shapes]
        targets = torch.randint(VOCABULARY, (33,), generator=g)
        found = transformer.decoder_gradients(*inputs, targets, losses=True)
        theirs = [t.double().requires_grad_() for t in inputs]
        logits = theirs[0] @ theirs[1] + theirs[2][:, None]
        losses = torch.stack([nn.functional.cross_entropy(run, targets) for run in logits])
        wanted = torch.autograd.grad(losses.sum(), theirs)
        for ours, other in zip((found.hidden, found.weight, found.bias), wanted, strict=True):
            torch.testing.assert_close(ours.double(), other, rtol=tolerance, atol=tolerance)
        torch.testing.assert_close(found.loss.double(), losses.detach(), rtol=tolerance, atol=tolerance)
        each = transformer.token_losses(*inputs, targets)
        torch.testing.assert_close(each.mean(1).double(), losses.detach(), rtol=tolerance, atol=tolerance)
        silent = transformer.decoder_gradients(*inputs, targets)
        assert silent.loss is None
        assert torch.equal(silent.weight, found.weight)


def test_in_bfloat16_the_gradients_of_the_loss_are_near():
    g = torch.Generator().manual_seed(3)
    hidden, weight, bias = (torch.randn(s, generator=g) for s in ((2, 64, 16), (2, 16, 50), (2, 50)))
    targets = torch.randint(50, (64,), generator=g)
    exact = transformer.decoder_gradients(hidden, weight, bias, targets, losses=True)
    near = transformer.decoder_gradients(hidden, weight, bias, targets, losses=True, autocast=True)
    for name in ("hidden", "weight", "bias", "loss"):
        ours, theirs = getattr(near, name), getattr(exact, name)
        assert ours.dtype == torch.float32
        assert (ours - theirs).norm() < 0.02 * theirs.norm(), name


def test_attention_is_causal_and_its_rows_sum_to_one():
    for architecture in ARCHITECTURES:
        ours, (inputs, _) = parameters(architecture), tokens()
        weights = []
        embedded = transformer.embed(ours["embedding"], inputs)
        hidden = transformer.encode(ours, embedded, architecture, LENGTH, weights=weights)
        assert len(weights) == architecture.layers
        for layer in weights:
            assert layer.shape == (RUNS, COLUMNS, architecture.heads, LENGTH, LENGTH)
            torch.testing.assert_close(layer.sum(-1), torch.ones_like(layer.sum(-1)))
            assert bool((layer.triu(1) == 0).all())
            assert bool((layer.tril() + torch.ones_like(layer).triu(1) > 0).all())
        changed = inputs.clone()
        changed[:, 4:] = (changed[:, 4:] + 1) % VOCABULARY
        embedded = transformer.embed(ours["embedding"], changed)
        other = transformer.encode(ours, embedded, architecture, LENGTH)
        same = (hidden == other).view(RUNS, COLUMNS, LENGTH, -1).all(-1)
        assert bool(same[:, :, :4].all())
        assert not bool(same[:, :, 4:].any())


def test_the_start_is_that_of_torchs_layers():
    architecture = transformer.Architecture(400, 3, 2, 48, 64)
    drawn = transformer.initial_parameters(architecture, 0)
    uniform = {
        "embedding": 0.1,
        "decoder.weight": 0.1,
        "0.attention_in.weight": math.sqrt(6 / (4 * 48)),
        "0.attention_out.weight": 1 / math.sqrt(48),
        "0.hidden_in.weight": 1 / math.sqrt(48),
        "0.hidden_in.bias": 1 / math.sqrt(48),
        "0.hidden_out.weight": 1 / math.sqrt(64),
        "0.hidden_out.bias": 1 / math.sqrt(64),
    }
    for name, bound in uniform.items():
        values = drawn[name]
        assert float(values.abs().max()) <= bound, name
        assert float(values.abs().max()) > 0.93 * bound, name
        assert float(values.std()) == pytest.approx(bound / math.sqrt(3), rel=0.15), name
    zero = ["decoder.bias", "0.attention_in.bias", "0.attention_out.bias", "0.attention_norm.bias"]
    assert all(not drawn[name].any() for name in zero)
    layers = [{n[2:]: p for n, p in drawn.items() if n.startswith(f"{i}.")} for i in range(3)]
    assert all(torch.equal(layers[0][name], layers[i][name]) for name in layers[0] for i in (1, 2))
    apart = transformer.initial_parameters(architecture, 0, identical_layers=False)
    assert not torch.equal(apart["0.hidden_in.weight"], apart["1.hidden_in.weight"])
    assert torch.equal(apart["0.hidden_in.weight"], drawn["0.hidden_in.weight"])
    other = transformer.initial_parameters(architecture, 1)
    assert not torch.equal(other["embedding"], drawn["embedding"])
    model = TorchModel(architecture, {name: p[None] for name, p in drawn.items()}, 0)
    assert sum(p.numel() for p in model.parameters()) == sum(p.numel() for p in drawn.values())
