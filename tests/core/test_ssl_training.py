"""The trainer against a plain one, against itself alone, and against being killed."""

import json

import numpy as np
import pytest
import torch
from torch import nn

from learndyn.core import ensemble, pairs, products, records, spectra, ssl_losses, ssl_networks, ssl_program
from learndyn.core.backbones import MLPConfig, ResNetConfig, SmallResNetConfig
from learndyn.core.checkpoint import CheckpointError
from learndyn.core.ensemble import EnsembleError
from learndyn.core.ssl_program import SSLProgram, representation_spectrum
from learndyn.core.ssl_training import (
    SSLConfig,
    SSLTrainingError,
    initial_network,
    train,
)

LOSSES = {
    "theory": ssl_losses.BarlowTwinsTheoryLoss(),
    "theory_centred": ssl_losses.BarlowTwinsTheoryLoss(centre=True),
    "barlow_twins": ssl_losses.BarlowTwinsLoss(),
    "vicreg": ssl_losses.VICRegLoss(invariance_weight=1.0, variance_weight=1.0, covariance_weight=0.2),
    "ntxent": ssl_losses.NTXentLoss(temperature=0.2),
    "inner_product": ssl_losses.NTXentLoss(similarity="inner_product"),
    "spectral": ssl_losses.SpectralContrastiveLoss(),
}
TINY = SSLConfig(
    network=MLPConfig(inputs=6, hidden=(10,), dimensions=4),
    learning_rate=0.02,
    body_scale=0.8,
    head_scale=0.7,
    steps=20,
    log_ratio=1.01,
    dtype="float64",
)
BLURRED = SmallResNetConfig(channels_in=2, width=2, image_size=8, dimensions=3)


def _views(*shape, seed=0, noise=0.3):
    g = torch.Generator().manual_seed(seed)
    clean = torch.randn(*shape, generator=g)
    return pairs.FixedPairs(*(clean + noise * torch.randn(*shape, generator=g) for _ in range(2)))


def _images(seed=0):
    return _views(12, 2, 8, 8, seed=seed)


def _plain_value(name, a, b):
    """The losses once more, in loops or with torch's own functions: float64 and slow."""
    n, d = a.shape
    if name.startswith("theory"):
        if name == "theory_centred":
            a, b = a - a.mean(0), b - b.mean(0)
        c = sum(torch.outer(a[i], b[i]) + torch.outer(b[i], a[i]) for i in range(n)) / (2 * n)
        return ((c - torch.eye(d)) ** 2).sum()
    if name == "barlow_twins":
        norm = nn.BatchNorm1d(d, affine=False).double()
        c = norm(a).T @ norm(b) / n
        off = c.pow(2).sum() - c.diagonal().pow(2).sum()
        return (1 - c.diagonal()).pow(2).sum() + 5e-3 * off
    if name == "vicreg":
        total = nn.functional.mse_loss(a, b)
        for z in (a, b):
            total = total + (1 - (z.var(0) + 1e-4).sqrt()).clamp(min=0).mean() / 2
            cov = torch.cov(z.T)
            total = total + 0.2 * (cov.pow(2).sum() - cov.diagonal().pow(2).sum()) / d
        return total
    if name in ("ntxent", "inner_product"):
        z = torch.cat((a, b))
        cosine = name == "ntxent"
        similarity = nn.functional.cosine_similarity(z[:, None], z[None], dim=-1) if cosine else z @ z.T
        logits = similarity / (0.2 if cosine else 0.5)
        kept = [torch.cat((logits[i, :i], logits[i, i + 1 :])) for i in range(2 * n)]
        partner = [n + i - 1 if i < n else i - n for i in range(2 * n)]
        return nn.functional.cross_entropy(torch.stack(kept), torch.tensor(partner))
    repulsion = sum((a[i] @ b[j]) ** 2 for i in range(n) for j in range(n) if i != j)
    return repulsion / (n * (n - 1)) - 2 * sum(a[i] @ b[i] for i in range(n)) / n


def _plain(config, run, source, value):
    """The usual trainer: one nn.Module, autograd, torch.optim. Losses before each step; the network."""
    network = initial_network(config, run)
    rate, decay = config.learning_rate[run], config.weight_decay[run]
    optimizer = {
        "sgd": lambda p: torch.optim.SGD(p, rate, config.momentum[run], weight_decay=decay),
        "adam": lambda p: torch.optim.Adam(p, rate, weight_decay=decay),
        "adamw": lambda p: torch.optim.AdamW(p, rate, weight_decay=decay),
    }[config.optimizer](network.parameters())
    losses = []
    for step in range(config.steps):
        a, b = (view.double() for view in source.batch(step))
        loss = value(network(a)[0], network(b)[0])
        optimizer.zero_grad()
        loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = rate * config.rate_factor(step)
        optimizer.step()
        losses.append(float(loss.detach()))
    return np.array(losses), network


def _agree(network, other, tolerance):
    ours, theirs = network.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], atol=tolerance, rtol=0)


NETWORKS = {
    "mlp": (MLPConfig(inputs=6, hidden=(10,), dimensions=4), _views(9, 6)),
    "deep_mlp_with_biases": (
        MLPConfig(inputs=6, hidden=(7, 5), dimensions=3, bias=True, initialisation="pytorch"),
        _views(9, 2, 3, 1),  # an MLP takes images, too
    ),
    "linear": (MLPConfig(inputs=6, hidden=(), dimensions=3), _views(9, 6)),
    "convolutions": (BLURRED.replace(batch_norm=False), _images()),
    "batch_norm": (BLURRED, _images()),
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("kind", ["mlp", "batch_norm"])
def test_every_loss_against_a_plain_trainer(name, kind):
    network, source = NETWORKS[kind]
    rate = 0.02 if kind == "mlp" else 0.003
    config = TINY.replace(network=network, loss=LOSSES[name], head_bias=0.5, seed=3, learning_rate=rate)
    losses, plain = _plain(config, 0, source, lambda a, b: _plain_value(name, a, b))
    result = train(config, source)
    np.testing.assert_allclose(result.log.loss[0, :20], losses, rtol=1e-9)
    assert losses[0] - losses[-1] > 1e-3  # it does train
    _agree(result.network(), plain, 1e-9)


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam", "adamw"])
def test_every_network_and_optimiser_against_a_plain_trainer(kind, optimizer):
    network, source = NETWORKS[kind]
    config = TINY.replace(
        network=network,
        optimizer=optimizer,
        loss=(LOSSES["vicreg"], LOSSES["theory"], LOSSES["vicreg"]),
        seed=(5, 6, 7),
        momentum=(0.0, 0.9, 0.5),
        weight_decay=(0.0, 0.1, 0.01),
        learning_rate=(0.02, 0.01, 0.015),
        head_bias=(0.0, 0.0, 0.3),
        schedule="cosine",
        warmup_steps=4,
    )
    result = train(config, source)
    for run in range(3):
        losses, plain = _plain(config, run, source, config.loss[run])
        np.testing.assert_allclose(result.log.loss[run, :20], losses, rtol=1e-9)
        _agree(result.network(run), plain, 1e-9)
    assert (result.parameters["head.bias"][:2] == 0).all()  # no bias stays no bias
    assert result.network(0).last.bias is None


@pytest.mark.parametrize("kind", ["mlp", "deep_mlp_with_biases", "linear"])
@pytest.mark.parametrize("own", [False, True])
def test_stacked_products_are_vmap(kind, own):
    network, source = NETWORKS[kind]
    config = TINY.replace(network=network, seed=(0, 1, 2), head_bias=0.1)
    networks = [initial_network(config, run) for run in range(3)]
    views = source.batch(0)
    if own:
        views = tuple(torch.stack([v, 2 * v, v.flip(0)]) for v in views)
    results = []
    for kind_of in (ssl_networks.StackedMLP, ssl_networks.VmappedNetworks):
        stacked = kind_of(networks)
        found = stacked.embed(*(v.double() for v in views), own=own)
        total = found.a.square().sum() + (found.b - 1).pow(3).sum()
        results.append([*found, *stacked.gradients(total)])
    assert len(results[0]) == 4 + len(dict(networks[0].named_parameters()))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=0)


@pytest.mark.parametrize("fast", [True, False])
def test_runs_of_equal_views_share_their_products(monkeypatch, fast):
    if not fast:
        monkeypatch.setattr(products, "_KERNEL", None)
    network, source = NETWORKS["deep_mlp_with_biases"]
    config = TINY.replace(network=network, seed=range(6), head_bias=0.1, dtype="float32")
    networks = [initial_network(config, run) for run in range(6)]
    first, second = source.batch(0)
    # Runs 0-2 and 3-5 see the same; one view alone being equal is not enough.
    views = (
        first.float().expand(6, *first.shape),
        torch.stack([second] * 3 + [second.flip(0)] * 3).float(),
    )
    stacked, mapped = (kind(networks) for kind in (ssl_networks.StackedMLP, ssl_networks.VmappedNetworks))
    # The second time after runs 2 and 3 are gone, the last time in the smallest blocks.
    for kept, cache in ((range(6), 2**21), ([0, 1, 4, 5], 2**21), (range(4), 0)):
        monkeypatch.setattr(ssl_networks, "_CACHE", cache)
        rows = torch.tensor(kept)
        if len(kept) < 6:  # anew, so that nothing is kept from before
            views = tuple(view[rows] for view in views)
            stacked.take(rows), mapped.take(rows)
        results = []
        for networks_together in (stacked, mapped):
            found = networks_together.embed(*views, own=True)
            total = found.a.square().sum() + (found.b - 1).pow(3).sum()
            results.append([*found, *networks_together.gradients(total)])
        for ours, theirs in zip(*results, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_blocks_of_runs(monkeypatch):
    def blocks(views, runs, room):
        found = ssl_networks._Views.of(views, runs, room)
        return [(block.start, block.stop) for block in found.blocks], found.shared

    assert blocks(torch.randn(5, 6), 7, 3) == ([(0, 2), (2, 4), (4, 7)], True)
    assert blocks(torch.randn(5, 6), 7, 7) == ([(0, 7)], True)
    assert blocks(torch.randn(4, 5, 6), 4, 3) == ([(0, 2), (2, 4)], False)
    twins = torch.randn(2, 5, 6).repeat_interleave(3, 0)
    monkeypatch.setattr(ssl_networks, "by_onednn", lambda _like: False)
    assert blocks(twins, 6, 6) == ([(0, 6)], False)
    monkeypatch.setattr(ssl_networks, "by_onednn", lambda _like: True)
    assert blocks(twins, 6, 6) == ([(0, 3), (3, 6)], True)
    assert blocks(twins, 6, 2) == ([(0, 1), (1, 3), (3, 4), (4, 6)], True)


def test_runs_of_one_loss_are_sorted_by_their_pairs():
    source = pairs.stack_pairs([_views(9, 6, seed=s) for s in (1, 2, 1, 2, 1)])
    assert ssl_program._first_with_equal_pairs(source, 5) == [0, 1, 0, 1, 0]
    assert ssl_program._first_with_equal_pairs(_views(9, 6), 5) == [0] * 5
    program = ssl_program.SSLProgram(MANY, source, torch.device("cpu"), head_bias=True, strict=True)
    # The losses are NT-Xent for runs 0 and 2, theory for 1 and 4, VICReg for 3.
    assert program.order == [0, 2, 4, 1, 3]
    config = MANY.replace(loss=LOSSES["vicreg"])
    program = ssl_program.SSLProgram(config, source, torch.device("cpu"), head_bias=True, strict=True)
    assert program.order == [0, 2, 4, 1, 3]
    whole = train(config, source)
    for run in range(5):
        alone = train(config.select([run]), source.select([run]))
        np.testing.assert_allclose(alone.log.loss[0], whole.log.loss[run], atol=1e-10)


MANY = TINY.replace(
    loss=(LOSSES["ntxent"], LOSSES["theory"], LOSSES["ntxent"], LOSSES["vicreg"], LOSSES["theory"]),
    seed=(1, 1, 2, 1, 4),
    body_scale=(1.0, 0.5, 0.3, 0.2, 0.1),
    head_bias=(1.0, 0.0, 0.5, 0.0, 0.0),
    momentum=(0.0, 0.9, 0.0, 0.5, 0.0),
    snapshot_steps=(0, 7),
    representation_modes=12,
)


@pytest.mark.parametrize("own", [False, True])
def test_a_run_is_the_same_alone_and_in_an_ensemble(own):
    shared = _views(9, 6)
    source = pairs.stack_pairs([_views(9, 6, seed=s) for s in range(5)]) if own else shared
    whole = train(MANY, source)
    parts = train(MANY, source, max_memory=20_000)
    for name in ("loss", "correlation_eigenvalues", "representation_eigenvalues", "embedding"):
        np.testing.assert_allclose(parts.log[name], whole.log[name], atol=1e-10, err_msg=name)
    for run in range(5):
        alone = train(MANY.select([run]), source.select([run]))
        for name in ("loss", "correlation_eigenvalues", "covariance_eigenvalues", "embedding"):
            np.testing.assert_allclose(alone.log[name][0], whole.log[name][run], atol=1e-10, err_msg=name)
        _agree(alone.network(), whole.network(run), 1e-10)
    assert whole.log.loss_name.values.tolist() == [loss.kind for loss in MANY.loss]
    assert len({round(float(x), 6) for x in whole.log.loss[:, 0]}) == 5


def test_memory_splits_the_ensemble(monkeypatch):
    sizes = []
    original = ensemble.drive
    monkeypatch.setattr(
        ensemble, "drive", lambda program, **o: (sizes.append(len(program.rows)), original(program, **o))
    )
    train(MANY, _views(9, 6), max_memory=40_000)
    assert sum(sizes) == 5
    assert len(sizes) > 1
    with pytest.raises(EnsembleError, match="one run needs about"):
        train(MANY, _views(9, 6), max_memory=1000)


def _noise(seed=0):
    g = torch.Generator().manual_seed(seed)
    return pairs.FreshNoisePairs(torch.randn(30, 6, generator=g), 0.3, 8, seed, _views(9, 6))


SOURCES = {
    "fixed": (MANY.network, _views(9, 6)),
    "fresh": (MANY.network, _noise()),
    "own": (MANY.network, pairs.stack_pairs([_views(9, 6, seed=s) for s in range(5)])),
    "batch_norm": (BLURRED, _images()),
    "convolutions": (BLURRED.replace(batch_norm=False), _images()),
}


@pytest.mark.parametrize(
    ("kind", "optimizer"),
    [("fixed", "sgd"), ("fresh", "adam"), ("own", "sgd"), ("batch_norm", "adam"), ("convolutions", "adamw")],
)
def test_resuming_is_not_having_stopped(kind, optimizer, tmp_path, monkeypatch):
    network, source = SOURCES[kind]
    config = MANY.replace(network=network, optimizer=optimizer, dtype="float32")
    if kind == "batch_norm":
        config = config.select([0, 1])
    whole = train(config, source)
    advance, left = SSLProgram.advance, [11 if config.network.vectorises else 31]

    def killed(program, step, *, logged):
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        advance(program, step, logged=logged)

    monkeypatch.setattr(SSLProgram, "advance", killed)
    options = {"checkpoint": tmp_path / "state.safetensors", "checkpoint_every": 3}
    with pytest.raises(KeyboardInterrupt):
        train(config, source, **options)
    monkeypatch.setattr(SSLProgram, "advance", advance)
    for _ in range(2):  # go on; then only read what is there
        again = train(config, source, **options)
        assert again.log.drop_attrs().identical(whole.log.drop_attrs())
        assert all(torch.equal(again.parameters[n], t) for n, t in whole.parameters.items())
        assert all(torch.equal(again.buffers[n], t) for n, t in whole.buffers.items())
    monkeypatch.setattr(SSLProgram, "advance", None)
    train(config, source, **options)
    with pytest.raises(CheckpointError, match="another configuration"):
        train(config.replace(steps=30), source, **options)
    if kind == "fresh":
        with pytest.raises(CheckpointError, match="another configuration"):
            train(config, _noise(seed=1), **options)


@pytest.mark.parametrize("kind", ["mlp", "batch_norm"])
def test_a_run_that_diverges_leaves_the_others_alone(kind, tmp_path):
    network, source = NETWORKS[kind]
    config = TINY.replace(
        network=network, seed=(0, 1), learning_rate=(50.0, 0.02), steps=110, snapshot_steps=(1, 105)
    )
    file = tmp_path / "state.safetensors"
    result = train(config, source, checkpoint=file, checkpoint_every=104)
    assert result.log.status_code.values.tolist() == [1, 0]
    assert "diverged: the training loss was" in result.log.status_sentence[0].item()
    since = int(result.log.status_step[0])
    assert 0 < since <= 110
    after = result.log.loss.sel(step=result.log.step > since)
    assert after[0].isnull().all()
    assert after[1].notnull().all()
    alone = train(config.select([1]), source)
    np.testing.assert_allclose(result.log.loss[1], alone.log.loss[0], atol=1e-10)
    _agree(result.network(1), alone.network(), 1e-10)
    result.network(0, step=1)
    with pytest.raises(SSLTrainingError, match="run 0 has no network at step 110: it diverged"):
        result.network(0)
    again = train(config, source, checkpoint=file, checkpoint_every=104)
    assert again.log.drop_attrs().identical(result.log.drop_attrs())
    with pytest.raises(EnsembleError, match=r"seed 0, learning_rate 50.*diverged"):
        train(config, source, strict=True)
    nobody_left = train(config.select([0]).replace(snapshot_steps=()), source)
    assert nobody_left.log.embedding.isnull().all()


def test_resuming_after_a_divergence(tmp_path, monkeypatch):
    config = TINY.replace(seed=(0, 1, 2), learning_rate=(0.02, 50.0, 0.01), steps=120, momentum=(0, 0, 0.9))
    source = pairs.stack_pairs([_views(9, 6, seed=s) for s in range(3)])
    whole = train(config, source)
    advance = SSLProgram.advance

    def killed(program, step, *, logged):
        if step == 115:
            raise KeyboardInterrupt
        advance(program, step, logged=logged)

    monkeypatch.setattr(SSLProgram, "advance", killed)
    with pytest.raises(KeyboardInterrupt):
        train(config, source, checkpoint=tmp_path / "c", checkpoint_every=110)
    monkeypatch.setattr(SSLProgram, "advance", advance)
    again = train(config, source, checkpoint=tmp_path / "c", checkpoint_every=110)
    assert again.log.drop_attrs().identical(whole.log.drop_attrs())
    assert all(
        t.isnan().any() and torch.equal(again.parameters[n][::2], t[::2]) for n, t in whole.parameters.items()
    )


@pytest.mark.parametrize("kind", ["mlp", "batch_norm", "convolutions"])
def test_bfloat16_is_close_to_float32(kind):
    network, source = NETWORKS[kind]
    config = TINY.replace(network=network, dtype="float32", seed=(0, 1), channels_last=kind != "mlp")
    config = config.replace(learning_rate=0.003)
    exact, rough = train(config, source), train(config.replace(autocast="bfloat16"), source)
    np.testing.assert_allclose(rough.log.loss, exact.log.loss, rtol=0.03)
    assert np.abs(rough.log.loss - exact.log.loss).max() > 0  # it was bfloat16
    assert all(t.dtype == torch.float32 for t in rough.parameters.values())
    for name in ("correlation_eigenvalues", "covariance_eigenvalues"):
        assert rough.log[name].dtype == np.float64
        np.testing.assert_allclose(rough.log[name], exact.log[name], atol=0.05 * float(exact.log[name].max()))


@pytest.mark.parametrize("kind", ["convolutions", "batch_norm"])
def test_the_memory_layout_changes_nothing(kind):
    network, source = NETWORKS[kind]
    config = TINY.replace(network=network)
    first, second = train(config, source), train(config.replace(channels_last=True), source)
    np.testing.assert_allclose(first.log.loss, second.log.loss, rtol=1e-9)
    _agree(first.network(), second.network(), 1e-10)


def test_batch_norm_sees_the_views_separately():
    shifted = _images()
    shifted = pairs.FixedPairs(shifted.view_a, 3 * shifted.view_b + 1)
    config = TINY.replace(network=BLURRED, loss=LOSSES["theory_centred"], steps=1)
    result = train(config, shifted)
    network = initial_network(config, 0)
    a, b = (network(view.double())[0].detach() for view in shifted.batch(0))
    both = initial_network(config, 0)(torch.cat(shifted.batch(0)).double())[0].detach()
    first = float(result.log.loss[0, 0])
    assert first == pytest.approx(float(LOSSES["theory_centred"](a, b)), rel=1e-12)
    assert abs(first - float(LOSSES["theory_centred"](both[:12], both[12:]))) > 1e-4
    # The log's own forward passes leave the statistics alone: one step, two batches.
    counted = {int(t[0, -1]) for n, t in result.buffers.items() if n.endswith("num_batches_tracked")}
    assert counted == {2}
    torch.testing.assert_close(
        result.buffers["body.bn1.running_mean"][0, -1], network.state_dict()["body.bn1.running_mean"]
    )


@pytest.mark.parametrize("kind", SOURCES)
def test_kept_networks_give_the_logged_embeddings(kind):
    network, source = SOURCES[kind]
    config = MANY.replace(network=network, dtype="float32")
    result = train(config, source)
    assert result.log.snapshot.values.tolist() == [0, 7, 20]
    views = source.evaluation()
    with torch.no_grad():
        for run, (place, step) in ((r, s) for r in (0, 3) for s in enumerate((0, 7, 20))):
            kept = result.network(run, step)
            own = [view[run] if source.runs else view for view in views]
            (a, rep_a), (b, rep_b) = (kept(view) for view in own)
            logged = torch.tensor(result.log.embedding.values[run, place])
            torch.testing.assert_close(torch.stack((a, b)), logged, atol=1e-5, rtol=0)
            eigenvalues = result.log.sel(step=step).isel(run=run)
            c = a.T.double() @ b.double() / len(a)
            if config.loss[run].centred:
                c = c - torch.outer(a.double().mean(0), b.double().mean(0))
            np.testing.assert_allclose(
                eigenvalues.correlation_eigenvalues,
                torch.linalg.eigvalsh((c + c.T) / 2).flip(0),
                atol=1e-5,
            )
            covariance = torch.cov(torch.cat((a, b)).double().T, correction=0)
            np.testing.assert_allclose(
                eigenvalues.covariance_eigenvalues, torch.linalg.eigvalsh(covariance).flip(0), atol=1e-5
            )
            hidden = torch.cov(torch.cat((rep_a, rep_b)).double().T, correction=0)
            wanted = np.zeros(12)
            found = torch.linalg.eigvalsh(hidden).flip(0)[:12]
            wanted[: len(found)] = found
            np.testing.assert_allclose(eigenvalues.representation_eigenvalues, wanted, atol=1e-4)
    _agree(result.network(1, 0), initial_network(config, 1), 0)


def test_the_spectrum_of_few_samples_is_that_of_their_gram_matrix():
    views = _views(5, 40)
    a, b = views.view_a.expand(2, -1, -1), views.view_b.expand(2, -1, -1)
    found = representation_spectrum(a, b, 12)
    wanted = spectra.sorted_eigenvalues(spectra.embedding_covariance(a, b))[:, :12]
    torch.testing.assert_close(found, torch.cat((wanted[:, :10], torch.zeros(2, 2).double()), 1))


def test_initial_scales_and_biases():
    plain = initial_network(TINY.replace(body_scale=1.0, head_scale=1.0), 0)
    scaled = initial_network(TINY.replace(body_scale=0.1, head_scale=0.01, head_bias=2.0), 0)
    torch.testing.assert_close(scaled.body[1].weight, 0.1 * plain.body[1].weight)
    torch.testing.assert_close(scaled.last.weight, 0.01 * plain.last.weight)
    many = SSLConfig(network=MLPConfig(dimensions=4000), head_bias=2.0)
    bias = initial_network(many, 0).last.bias.detach()
    assert abs(float(bias.std()) - 2) < 0.1
    assert abs(float(bias.mean())) < 0.15
    assert plain.last.bias is None


def test_the_learning_rate_follows_its_schedule_and_time_adds_it_up():
    config = TINY.replace(schedule="cosine", warmup_steps=5, steps=25, learning_rate=(0.1, 0.2), seed=0)
    factors = [config.rate_factor(step) for step in range(25)]
    assert factors[:5] == [0.2, 0.4, 0.6, 0.8, 1.0]
    assert factors[5] == 1
    assert factors[15] == pytest.approx(0.5)
    log = train(config, _views(9, 6)).log
    np.testing.assert_allclose(log.effective_time[1], 0.2 * np.cumsum([0, *factors])[log.step])
    constant = train(TINY, _views(9, 6)).log
    np.testing.assert_allclose(constant.effective_time[0], 0.02 * constant.step)


def test_what_is_returned_can_be_stored(tmp_path):
    config = MANY.replace(head_scale=0.5)
    log = train(config, _views(9, 6)).log
    records.save(log, tmp_path / "log.nc")
    assert records.load(tmp_path / "log.nc", config).identical(log)
    assert log.loss.dims == ("run", "step")
    assert log.correlation_eigenvalues.dims == ("run", "step", "mode")
    assert log.representation_eigenvalues.dims == ("run", "step", "hidden_mode")
    assert log.embedding.dims == ("run", "snapshot", "view", "pair", "dimension")
    assert log.embedding.shape == (5, 3, 2, 9, 4)
    assert log.head_bias.values.tolist() == [1.0, 0.0, 0.5, 0.0, 0.0]
    assert SSLConfig.parse(json.loads(log.attrs["config"])) == config
    assert log.attrs["pairs"].startswith("FixedPairs(")


@pytest.mark.parametrize(
    ("network", "source", "sentence"),
    [
        (TINY.network, _views(9, 7), "views of shape 7 do not fit the network 'mlp': .*6 features, not of 7"),
        (BLURRED, _views(9, 3, 8, 8), "views of shape 3 × 8 × 8 do not fit the network 'small_resnet'"),
        (ResNetConfig(depth=18), _views(9, 6), "views of shape 6 do not fit the network 'resnet'"),
        (
            TINY.network,
            pairs.stack_pairs([_views(9, 6), _views(9, 6)]),
            "for 2 runs and the configuration has 1",
        ),
    ],
)
def test_pairs_that_do_not_fit(network, source, sentence):
    with pytest.raises(SSLTrainingError, match=sentence) as caught:
        train(TINY.replace(network=network), source)
    assert "\n" not in str(caught.value)


def test_networks_that_were_not_kept():
    result = train(TINY, _views(9, 6))
    with pytest.raises(SSLTrainingError, match="no network was kept at step 3; kept are 20"):
        result.network(0, 3)
    with pytest.raises(SSLTrainingError, match="there is no run 1; the last one is 0"):
        result.network(1)
