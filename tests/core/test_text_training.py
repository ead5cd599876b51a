"""Training language models in an ensemble, against torch.nn and torch.optim, run by run."""

import json
import math

import numpy as np
import pytest
import torch
from torch import nn
from torch_transformer import TorchModel

from learndyn.core import ensemble, text, text_program, text_training, transformer
from learndyn.core.config import ConfigError
from learndyn.core.text_settings import TextConfig

WORDS = 19
SMALL = TextConfig(
    width=8, hidden_size=10, window_length=6, steps=8, log_every=1, learning_rate=0.5, map_window=1
)


def language(columns=4, positions=33, validation_positions=22, words=WORDS, seed=0):
    """A text with a little structure: the next word is often the double of the last."""
    g = torch.Generator().manual_seed(seed)

    def stream(columns, positions):
        ids = [torch.randint(words, (columns,), generator=g)]
        for _ in range(positions - 1):
            free = torch.randint(words, (columns,), generator=g)
            ids.append(torch.where(torch.rand(columns, generator=g) < 0.8, (2 * ids[-1] + 1) % words, free))
        return text.TokenStream(torch.stack(ids, 1).int())

    vocabulary = text.Vocabulary(tuple(str(i) for i in range(words)))
    return text.LanguageData(
        stream(columns, positions), stream(3, validation_positions), vocabulary, "doubles"
    )


DATA = language()


def program(config, data=DATA):
    return text_program.TextProgram(config, data, torch.device("cpu"))


def torch_training(config, run, optimizer, data=DATA, steps=None, clip=True):
    """The same run with torch's own model, optimiser and clipping; losses and the model."""
    architecture = config.architecture(len(data.vocabulary))
    start = transformer.initial_parameters(architecture, config.seed[run])
    model = TorchModel(architecture, {name: p[None] for name, p in start.items()}, 0)
    hidden = [p for name, p in model.named(architecture).items() if transformer.is_hidden_layer(name)]
    others = [p for p in model.parameters() if all(p is not h for h in hidden)]
    rate = config.learning_rate[run]
    groups = [{"params": others, "lr": rate}, {"params": hidden, "lr": rate * config.hidden_rate_factor[run]}]
    made, losses = None, []
    for step in range(config.steps if steps is None else steps):
        windows = data.train.windows(config.window_length)
        if made is None or (config.reset_moments and step % windows == 0):
            made = optimizer(groups)
        inputs, targets = data.train.window(step % windows, config.window_length)
        loss = nn.functional.cross_entropy(model.decoder(model(inputs)).flatten(0, 1), targets.flatten())
        made.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
        made.step()
        losses.append(float(loss.detach()))
    return losses, model


OPTIMIZERS = {
    "sgd": ({"learning_rate": (0.5, 2.0)}, lambda groups: torch.optim.SGD(groups)),
    "momentum": (
        {"learning_rate": (0.1, 0.3), "momentum": 0.9, "weight_decay": 1e-3},
        lambda groups: torch.optim.SGD(groups, momentum=0.9, weight_decay=1e-3),
    ),
    "adam": ({"optimizer": "adam", "learning_rate": (1e-3, 1e-2)}, lambda groups: torch.optim.Adam(groups)),
    "adamw": (
        {"optimizer": "adamw", "learning_rate": (1e-3, 1e-2), "weight_decay": 0.1},
        lambda groups: torch.optim.AdamW(groups, weight_decay=0.1),
    ),
    "adam, moments reset": (
        {"optimizer": "adam", "learning_rate": (1e-3, 1e-2), "reset_moments": True},
        lambda groups: torch.optim.Adam(groups),
    ),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize(("layers", "heads"), [(1, 1), (2, 2)])
def test_steps_are_those_of_torch_with_clipping(name, layers, heads):
    options, optimizer = OPTIMIZERS[name]
    config = SMALL.replace(
        layers=layers,
        heads=heads,
        seed=(3, 4),
        dropout=0.0,
        dtype="float64",
        steps=8,
        **options,
    )
    assert DATA.train.windows(6) == 6  # so that 8 steps see the short window and a new epoch
    ours = program(config)
    ensemble.drive(ours, steps=8, logged=config.logged_steps)
    architecture = config.architecture(WORDS)
    for run in range(2):
        losses, model = torch_training(config, run, optimizer)
        np.testing.assert_allclose(ours.log.values["train_loss"][run, :8], losses, rtol=1e-7)
        for key, theirs in model.named(architecture).items():
            value = ours.parameters[key][run].detach()
            theirs = theirs.mT if theirs.ndim == 2 and key != "embedding" else theirs
            torch.testing.assert_close(value, theirs.detach(), rtol=1e-6, atol=1e-7, msg=key)


def test_clipping_and_the_moments_matter():
    """What the comparison above could not miss: without clipping or resets torch goes elsewhere."""
    config = SMALL.replace(dropout=0.0, dtype="float64", optimizer="adam", learning_rate=1e-2, steps=9)
    fast = config.replace(optimizer="sgd", learning_rate=0.5)
    clipped, _ = torch_training(fast, 0, torch.optim.SGD)
    free, _ = torch_training(fast, 0, torch.optim.SGD, clip=False)
    assert abs(clipped[3] - free[3]) > 1e-4
    kept, _ = torch_training(config, 0, torch.optim.Adam)
    reset, _ = torch_training(config.replace(reset_moments=True), 0, torch.optim.Adam)
    assert kept[:7] == reset[:7]
    assert abs(kept[8] - reset[8]) > 1e-5


def test_each_run_is_clipped_by_its_own_norm():
    gradients = [torch.tensor([[3.0, 0.0], [0.3, 0.0]]), torch.tensor([[[4.0]], [[0.4]]])]
    norms = text_program.clip_(gradients, 1.0)
    torch.testing.assert_close(norms, torch.tensor([5.0, 0.5]))
    torch.testing.assert_close(gradients[0], torch.tensor([[0.6, 0.0], [0.3, 0.0]]), rtol=1e-5, atol=0)
    torch.testing.assert_close(gradients[1], torch.tensor([[[0.8]], [[0.4]]]), rtol=1e-5, atol=0)


MANY = SMALL.replace(
    seed=(0, 1, 0, 5),
    learning_rate=(0.5, 1.0, 2.0, 0.1),
    dropout=(0.3, 0.1, 0.3, 0.0),
    hidden_rate_factor=(2.0, 1.0, 2.0, 3.0),
    layers=2,
    evaluation_steps=(0, 5, 8),
    snapshot_steps=(0, 8),
)


def test_a_run_trains_alone_as_in_the_ensemble_and_in_parts():
    whole = text_training.train(MANY, DATA)
    limit = 2 * text_training._bytes_per_run(MANY, DATA)
    parts = text_training.train(MANY, DATA, max_memory=limit)
    for name in ("train_loss", "validation_loss", "attention_entropy", "maps"):
        np.testing.assert_allclose(parts[name], whole[name], rtol=2e-6, atol=1e-7, err_msg=name)
        for run in range(4):
            alone = text_training.train(MANY.select([run]), DATA)
            np.testing.assert_allclose(alone[name][0], whole[name][run], rtol=2e-6, atol=1e-7, err_msg=name)
    assert np.abs(whole.train_loss[0] - whole.train_loss[2]).max() > 1e-3  # rates matter


class _Stop(Exception):
    pass


def _interrupt(patch, at):
    advance = text_program.TextProgram.advance

    def interrupted(self, step, *, logged):
        if step == at:
            raise _Stop
        advance(self, step, logged=logged)

    patch.setattr(text_program.TextProgram, "advance", interrupted)


@pytest.mark.parametrize(
    "options", [{}, {"momentum": 0.9}, {"optimizer": "adam", "learning_rate": 1e-2, "reset_moments": True}]
)
def test_a_resumed_training_is_bit_for_bit_the_uninterrupted_one(options, tmp_path, monkeypatch):
    config = MANY.replace(steps=15, evaluation_steps=(0, 9, 15), snapshot_steps=(3, 14), **options)
    whole = text_training.train(config, DATA)
    file = tmp_path / "text.safetensors"
    with monkeypatch.context() as patch:
        _interrupt(patch, 10)
        with pytest.raises(_Stop):
            text_training.train(config, DATA, checkpoint=file, checkpoint_every=4)
    resumed = text_training.train(config, DATA, checkpoint=file, checkpoint_every=4)
    assert resumed.drop_attrs().identical(whole.drop_attrs())
    _interrupt(monkeypatch, 10)  # nothing is trained again
    assert text_training.train(config, DATA, checkpoint=file).drop_attrs().identical(whole.drop_attrs())
    with pytest.raises(ValueError, match="another configuration"):
        text_training.train(config, language(seed=1), checkpoint=file)


def test_a_run_that_diverges_leaves_the_others(tmp_path, monkeypatch):
    config = SMALL.replace(
        seed=(0, 1, 2),
        learning_rate=(0.5, 1e30, 1.0),
        momentum=0.3,
        dropout=0.2,
        steps=104,
        clip_norm=None,
        evaluation_steps=(0, 102),
        snapshot_steps=(0, 102),
    )
    found = text_training.train(config, DATA)
    assert found.status_code.values.tolist() == [0, 1, 0]
    assert 0 < int(found.status_step[1]) < 100
    assert "diverged" in str(found.status_sentence[1].item())
    calm = text_training.train(config.select([0, 2]), DATA)
    for name in ("train_loss", "validation_loss", "attention_entropy", "maps"):
        assert np.isfinite(found[name][[0, 2]]).all(), name
        np.testing.assert_allclose(found[name][[0, 2]], calm[name], rtol=2e-6, atol=1e-7, err_msg=name)
        assert np.isnan(found[name][1, -1]).all(), name
        assert np.isfinite(found[name][1, 0]).all(), name
    with pytest.raises(ensemble.EnsembleError, match="seed 1, learning_rate 1e"):
        text_training.train(config, DATA, strict=True)
    file = tmp_path / "text.safetensors"  # resumed when two of three runs are left
    with monkeypatch.context() as patch:
        _interrupt(patch, 103)
        with pytest.raises(_Stop):
            text_training.train(config, DATA, checkpoint=file, checkpoint_every=101)
    resumed = text_training.train(config, DATA, checkpoint=file)
    assert resumed.drop_attrs().identical(found.drop_attrs())


def test_evaluation_is_the_mean_over_the_windows():
    """Losses of all tokens, the short window's too; entropies of full windows; of torch's model."""
    config = SMALL.replace(seed=(0, 3), layers=2, heads=2, dtype="float64", steps=0, evaluation_steps=(0,))
    found = text_training.train(config, DATA)
    architecture = config.architecture(WORDS)
    assert DATA.validation.windows(6) == 4
    for run, seed in enumerate(config.seed):
        start = transformer.initial_parameters(architecture, seed)
        model = TorchModel(architecture, {name: p[None] for name, p in start.items()}, 0).eval()
        losses, entropies = [], [[], []]
        for index in range(4):
            inputs, targets = DATA.validation.window(index, 6)
            logits = model.decoder(model(inputs))
            losses.append(nn.functional.cross_entropy(logits.mT, targets, reduction="none").flatten())
            weights = []
            given = {name: p[None].double() for name, p in start.items()}
            embedded = transformer.embed(given["embedding"], inputs)
            transformer.encode(given, embedded, architecture, inputs.shape[1], weights=weights)
            if inputs.shape[1] == 6:
                for layer in range(2):
                    rows = weights[layer].reshape(-1, 6).tolist()
                    entropies[layer] += [-sum(a * math.log(a) for a in row if a > 0) for row in rows]
        loss = float(torch.cat(losses).detach().mean())
        assert float(found.validation_loss[run, 0]) == pytest.approx(loss, rel=1e-9)
        means = [np.mean(rows) for rows in entropies]
        np.testing.assert_allclose(found.attention_entropy[run, 0], means, rtol=1e-9)
    some = text_training.train(config.replace(validation_windows=(1, 2)), DATA)
    assert abs(float(some.validation_loss[0, 0] - found.validation_loss[0, 0])) > 1e-4


def test_maps_are_those_of_the_first_column_of_the_named_training_window():
    config = SMALL.replace(
        layers=2, heads=2, dtype="float64", snapshot_steps=(0, 7), map_window=2, dropout=0.5, steps=7
    )
    found = text_training.train(config, DATA).maps
    assert found.dims == ("run", "snapshot", "layer", "head", "query_position", "key_position")
    assert found.shape == (1, 2, 2, 2, 6, 6)
    assert found.snapshot.values.tolist() == [0, 7]
    ours = program(config)
    for snapshot in range(2):
        weights = []
        embedded = transformer.embed(ours.parameters["embedding"], DATA.train.ids[:1, 12:18].long())
        transformer.encode(ours.parameters, embedded, ours.architecture, 6, weights=weights)
        for layer in range(2):
            wanted = weights[layer][0, 0].detach().numpy()
            np.testing.assert_allclose(found[0, snapshot, layer], wanted, rtol=1e-9)
        for step in range(7):
            ours.advance(step, logged=False)
    np.testing.assert_allclose(found.sum("key_position"), 1, rtol=1e-12)


def test_what_is_logged_and_how_it_is_labelled():
    measure = text_training.Measure(
        "norms",
        ("layer",),
        lambda p: torch.stack([p[f"{i}.hidden_in.weight"].norm(dim=(1, 2)) for i in (0, 1)], 1),
    )
    found = text_training.train(MANY.replace(log_every=5), DATA, measures=[measure])
    assert found.step.values.tolist() == [0, 5, 8]
    assert found.evaluation.values.tolist() == [0, 5, 8]
    assert found.norms.dims == ("run", "evaluation", "layer")
    assert found.norms.shape == (4, 3, 2)
    assert found.learning_rate.values.tolist() == [0.5, 1.0, 2.0, 0.1]
    assert found.seed.values.tolist() == [0, 1, 0, 5]
    assert np.isfinite(found.train_loss).all()
    assert found.attrs["text_sha256"] == DATA.identity
    assert TextConfig(**json.loads(found.attrs["config"])) == MANY.replace(log_every=5)
    bare = text_training.train(SMALL.replace(steps=1), DATA)
    assert set(bare.data_vars) == {"train_loss", "status_code", "status_step", "status_sentence"}


def test_a_small_model_learns_more_than_word_frequencies():
    data = language(columns=8, positions=1000, validation_positions=300)
    config = SMALL.replace(
        width=24, hidden_size=24, window_length=12, steps=150, learning_rate=1.0, dropout=0.1,
        evaluation_steps=(0, 150), seed=(0, 1),
    )  # fmt: skip
    found = text_training.train(config, data)
    counts = np.bincount(data.train.ids.flatten().numpy(), minlength=WORDS)
    frequencies = counts / counts.sum()
    unigram = -(frequencies * np.log(frequencies)).sum()
    assert (found.validation_loss[:, -1] < unigram - 0.5).all()
    assert (found.validation_loss[:, 0] > unigram).all()


def test_attention_starts_nearly_uniform():
    assert text_training.uniform_causal_entropy(35) == pytest.approx(math.lgamma(36) / 35, rel=1e-12)
    assert text_training.uniform_causal_entropy(35) == pytest.approx(2.6325, abs=1e-4)
    data = language(columns=2, positions=100, validation_positions=100, words=200)
    config = TextConfig(steps=0, evaluation_steps=(0,), layers=2)
    entropy = text_training.train(config, data).attention_entropy.values[0, 0]
    assert (entropy < 2.6325).all()
    assert (entropy > 2.4).all()


def test_bfloat16_is_near_float32():
    data = language(columns=8, positions=400)
    config = SMALL.replace(
        width=32, hidden_size=32, steps=60, evaluation_steps=(0, 60), learning_rate=1.0, dropout=0.1
    )
    exact = text_training.train(config, data)
    near = text_training.train(config.replace(autocast="bfloat16"), data)
    assert near.train_loss.dtype == np.float32
    assert 0 < np.abs(near.train_loss - exact.train_loss).max() < 0.1
    assert abs(float(near.validation_loss[0, -1] - exact.validation_loss[0, -1])) < 0.05
    np.testing.assert_allclose(near.attention_entropy[0, 0], exact.attention_entropy[0, 0], rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heads": 3}, "heads must divide width = 8, and 3 does not"),
        ({"evaluation_steps": (0, 13)}, "evaluation_steps must lie within the 8 steps, not at 13"),
        ({"snapshot_steps": (5, 5)}, "snapshot_steps must increase"),
        ({"validation_windows": (1, 1)}, "validation_windows must differ"),
        ({"dropout": 1.0}, "dropout.* less than 1"),
        ({"learning_rate": 0.0}, "learning_rate.* greater than 0"),
        ({"seed": (1, 2), "learning_rate": (1.0, 2.0, 3.0)}, "seed has 2 values for 3 runs"),
        ({"autocast": "bfloat16", "dtype": "float64"}, "needs dtype = 'float32'"),
    ],
)
def test_a_bad_configuration_is_refused_in_one_sentence(change, message):
    with pytest.raises(ConfigError, match=message) as caught:
        SMALL.replace(**change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "data", "message"),
    [
        ({"map_window": 5, "snapshot_steps": (0,)}, DATA, r"map_window = 5: .* windows 0 to 4 of 6"),
        ({"validation_windows": (0, 3)}, DATA, r"validation_windows names 3, .* windows 0 to 2 of 6"),
        ({"window_length": 33}, DATA, "training text of doubles has 33 positions .* too few"),
        ({}, language(validation_positions=6), "validation text of doubles has 6 positions"),
        (
            {},
            text.LanguageData(DATA.train, DATA.validation, text.Vocabulary(("a", "b")), "torn"),
            "ends at 1",
        ),
    ],
)
def test_a_text_that_does_not_fit_is_refused_in_one_sentence(change, data, message):
    with pytest.raises(text_training.TextTrainingError, match=message) as caught:
        text_training.train(SMALL.replace(**change), data)
    assert "\n" not in str(caught.value)
