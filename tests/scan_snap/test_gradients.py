"""Lemma 1 against autograd through one-hot sequences; Lemma 2 by its exponent and its bound."""

import numpy as np
import pytest
import torch

from learndyn.core.device import generator
from learndyn.scan_snap.classes import SequenceError, symmetric_classes
from learndyn.scan_snap.gradients import length_error, per_sample_gradients
from learndyn.scan_snap.task import SYN_SMALL

M, T, BATCH, QUERY = 12, 9, 6, 3


@pytest.fixture(scope="module")
def sample():
    draws = generator(0, "lemma-1")
    tokens = torch.randint(M, (BATCH, T - 1), generator=draws)
    return {
        "tokens": tokens,
        "counts": torch.nn.functional.one_hot(tokens, M).sum(1).double(),
        "decoder": torch.randn(BATCH, M, M, generator=draws, dtype=torch.float64),
        "attention": torch.randn(BATCH, M, M, generator=draws, dtype=torch.float64),
        "next": torch.randint(M, (BATCH,), generator=draws),
    }


def _autograd(sample, i):
    """The log-likelihood as it is defined, with one-hot rows X and attention over positions."""
    Y = sample["decoder"][i].clone().requires_grad_()
    Z = sample["attention"][i].clone().requires_grad_()
    X = torch.nn.functional.one_hot(sample["tokens"][i], M).double()
    b = torch.softmax(X @ Z[QUERY], 0)
    combined = X.T @ b
    logits = Y.T @ (combined / combined.norm())
    (logits[sample["next"][i]] - torch.logsumexp(logits, 0)).backward()
    return Y.grad, Z.grad


def _ours(sample):
    return per_sample_gradients(
        sample["counts"], sample["decoder"], sample["attention"][:, QUERY], sample["next"]
    )


def test_gradients_are_those_of_autograd(sample):
    ours = _ours(sample)
    for i in range(BATCH):
        decoder, attention = _autograd(sample, i)
        assert (ours.decoder[i] - decoder).abs().max() < 1e-12
        assert (ours.attention[i] - attention[QUERY]).abs().max() < 1e-12
        others = torch.arange(M) != QUERY
        assert (attention[others] == 0).all()
        assert ours.attention[i].abs().max() > 1e-3  # not met by zeros


def test_rows_of_both_gradients_sum_to_zero(sample):
    ours = _ours(sample)
    assert ours.decoder.sum(-1).abs().max() < 1e-15 * M
    assert ours.attention.sum(-1).abs().max() < 1e-15 * M


def test_tokens_that_do_not_occur_get_exactly_nothing(sample):
    ours, absent = _ours(sample), sample["counts"] == 0
    assert absent.any()
    assert (ours.attention[absent] == 0).all()
    assert (ours.decoder[absent] == 0).all()


def test_leading_axes_are_a_batch(sample):
    folded = {name: value.unflatten(0, (2, 3)) for name, value in sample.items()}
    ours = per_sample_gradients(
        folded["counts"], folded["decoder"], folded["attention"][:, :, QUERY], folded["next"]
    )
    torch.testing.assert_close(ours.decoder.flatten(0, 1), _ours(sample).decoder, rtol=0, atol=1e-15)
    torch.testing.assert_close(ours.attention.flatten(0, 1), _ours(sample).attention, rtol=0, atol=1e-15)


def test_the_error_of_a_learned_label_keeps_its_digits():
    """At logit 60 above the rest 1 − α is 3 e^{−60}, which 1 minus a rounded α would call 0."""
    decoder = torch.zeros(4, 4, dtype=torch.float64)
    decoder[0, 2] = 60
    counts, z = torch.tensor([3.0, 0, 0, 0], dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
    ours = per_sample_gradients(counts, decoder, z, torch.tensor(2))
    assert float(ours.decoder[0, 2]) == pytest.approx(3 * np.exp(-60), rel=1e-12)


def test_attention_of_sampled_sequences_converges_as_the_inverse_root_of_their_length():
    lengths = [32, 128, 512, 2048, 8192]
    classes = SYN_SMALL.to_classes()
    data = length_error(classes, lengths, draws=3000)
    scaled = data["attention_error"].mean("next") * np.sqrt(data["length"] - 1)
    np.testing.assert_allclose(scaled / scaled.mean(), 1, atol=0.02)
    # At zero logits c is P and Xᵀb the frequencies: E‖q − P‖² = Σ P (1 − P) / (T − 1) exactly.
    root_mean_square = np.sqrt(sum(p * (1 - p) for p in classes.probabilities[0]))
    assert 0.9 < float(scaled.mean()) / root_mean_square < 1


def test_attention_error_at_other_logits_is_that_of_sequences_drawn_token_by_token():
    classes = symmetric_classes(2, 10, 2, [1.0], [1.0, 2.0])
    z = np.zeros((1, 10))
    z[0, :5] = [-1.0, 1.0, 0.5, 2.0, -0.5]
    data = length_error(classes, [9], draws=4000, z=z)
    rng = np.random.default_rng(5)
    for n in range(2):
        limit = classes.attention_weights(z)[n]
        errors = []
        for _ in range(1500):
            tokens = rng.choice(10, size=8, p=classes.probabilities[n])
            attention = np.exp(z[0, tokens]) / np.exp(z[0, tokens]).sum()
            combined = np.zeros(10)
            np.add.at(combined, tokens, attention)
            errors.append(np.linalg.norm(combined - limit))
        assert float(data["attention_error"][0, n]) == pytest.approx(np.mean(errors), rel=0.05)


def test_the_bound_on_frequencies_holds_and_is_not_empty():
    data = length_error(SYN_SMALL.to_classes(), [32, 512], draws=2000, failure=0.05)
    np.testing.assert_allclose(data["bound"], [np.sqrt(np.log(40) / (2 * n)) for n in (31, 511)])
    assert (data["frequency_error"] <= data["bound"]).all()
    assert (data["frequency_error"] > data["bound"] / 10).all()


def test_same_seed_same_sequences():
    classes = SYN_SMALL.to_classes()
    first, second = length_error(classes, [32], 10, seed=1), length_error(classes, [32], 10, seed=1)
    assert first.identical(second)
    assert not first.equals(length_error(classes, [32], 10, seed=2))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"lengths": []}, "at least 2"),
        ({"lengths": [1, 32]}, "at least 2"),
        ({"draws": 0}, "draws must be at least 1"),
        ({"failure": 0.0}, "failure between 0 and 1"),
        ({"failure": 1.5}, "failure between 0 and 1"),
    ],
)
def test_sequences_that_cannot_be_drawn_are_refused(change, sentence):
    with pytest.raises(SequenceError, match=sentence):
        length_error(SYN_SMALL.to_classes(), **{"lengths": [32], "draws": 3} | change)


def test_a_sequence_without_a_token_is_refused(sample):
    counts = sample["counts"].clone()
    counts[2] = 0
    with pytest.raises(SequenceError, match="every sequence needs a contextual token"):
        per_sample_gradients(counts, sample["decoder"], sample["attention"][:, QUERY], sample["next"])
