"""Predicted embeddings: exact for linear networks, against plain NumPy, and the published order on digits."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import nn

from learndyn.core import backbones
from learndyn.core.device import generator
from learndyn.core.pairs import FixedPairs, stack_pairs
from learndyn.ssl_dynamics.stepwise import kernel, prediction


def _toy(seed=0, pairs=30, inputs=6):
    """Views with a common part of falling variance and some noise, float64."""
    g = generator(seed, "toy")
    common = torch.randn(pairs, inputs, generator=g, dtype=torch.float64)
    common = 0.3 + common * torch.tensor([2.0, 1.5, 1.0, 0.7, 0.4, 0.2], dtype=torch.float64)
    noise = 0.1 * torch.randn(2, pairs, inputs, generator=g, dtype=torch.float64)
    return FixedPairs(common + noise[0], common + noise[1])


def _linear_network(weight):
    head = nn.Linear(weight.shape[1], weight.shape[0], bias=False).double()
    with torch.no_grad():
        head.weight.copy_(weight)
    return backbones.Network(nn.Identity(), head)


def _top_modes(pairs, dimensions):
    """Eigenvectors of the largest eigenvalues of Γ over the square roots of these, by NumPy."""
    a, b = pairs.view_a.numpy(), pairs.view_b.numpy()
    values, vectors = np.linalg.eigh((a.T @ b + b.T @ a) / (2 * len(a)))
    return torch.from_numpy((vectors[:, ::-1] / np.sqrt(np.abs(values[::-1])))[:, :dimensions].T.copy())


def test_prediction_is_exact_for_a_linear_network_at_the_solution_of_least_norm():
    pairs = _toy()
    weight = _top_modes(pairs, 3)
    rotation = torch.linalg.qr(torch.randn(3, 3, generator=generator(1), dtype=torch.float64)).Q
    found = prediction.alignment_with_network(_linear_network(rotation @ weight), pairs)
    assert found.raw == pytest.approx(1, abs=1e-9)
    assert found.random == 3 / 60


def test_other_zero_loss_solutions_are_told_apart():
    """W made of modes 2 to 4 fits just as well, and is not what is predicted: two of three dimensions are."""
    pairs = _toy()
    found = prediction.alignment_with_network(_linear_network(_top_modes(pairs, 4)[1:]), pairs)
    assert 0.5 < found.raw < 0.8
    shuffled = prediction.network_embeddings(_linear_network(_top_modes(pairs, 3)), pairs)
    shuffled = shuffled[:, torch.randperm(60, generator=generator(2))]
    matrix = prediction.network_kernel(_linear_network(_top_modes(pairs, 3)), pairs)
    assert prediction.alignment(matrix, shuffled).raw < 0.35


@pytest.mark.parametrize("centred", [False, True])
def test_prediction_is_the_formula_in_numpy(centred):
    g = generator(3)
    pairs, dimensions = 12, 4
    root = torch.randn(2 * pairs, 40, generator=g, dtype=torch.float64)
    matrix, embeddings = root @ root.T, torch.randn(dimensions, 2 * pairs, generator=g, dtype=torch.float64)
    found = prediction.alignment(matrix, embeddings)

    projector = np.eye(2 * pairs)
    if centred:
        for view in (0, 1):
            constant = np.zeros((2 * pairs, 1))
            constant[view * pairs : (view + 1) * pairs] = pairs**-0.5
            projector -= constant @ constant.T
    values, vectors = np.linalg.eigh(projector @ matrix.numpy() @ projector)
    values = np.where(values > 1e-10 * values[-1], values, 0)
    square_root = vectors @ np.diag(np.sqrt(values)) @ vectors.T
    swap = np.block([[np.zeros((pairs, pairs)), np.eye(pairs)], [np.eye(pairs), np.zeros((pairs, pairs))]])
    gammas, modes = np.linalg.eigh(square_root @ swap @ square_root / (2 * pairs))
    expected = np.diag(gammas[::-1][:dimensions] ** -0.5) @ modes[:, ::-1][:, :dimensions].T @ square_root
    ours = prediction.predict_embeddings(matrix, dimensions, centred=centred)
    assert np.allclose(ours.T @ ours, expected.T @ expected, atol=1e-8)  # signs of modes are free

    def project(rows):
        return rows.T @ np.linalg.solve(rows @ rows.T, rows)

    by_hand = np.trace(project(expected) @ project(embeddings.numpy() @ projector)) / dimensions
    assert (found.centred if centred else found.raw) == pytest.approx(by_hand, abs=1e-8)


def test_centred_alignment_ignores_constants_of_the_views():
    pairs = _toy()
    network = _linear_network(_top_modes(pairs, 3))
    matrix, embeddings = (
        prediction.network_kernel(network, pairs),
        prediction.network_embeddings(network, pairs),
    )
    moved = embeddings.clone()
    moved[:, :30] += 5
    moved[:, 30:] -= 3
    before, after = prediction.alignment(matrix, embeddings), prediction.alignment(matrix, moved)
    assert after.centred == pytest.approx(before.centred, abs=1e-9)
    assert after.raw < before.raw - 0.05


def _images(pairs=10):
    views = torch.randn(2, pairs, 3, 8, 8, generator=generator(0, "images"))
    return FixedPairs(views[0], views[1])


def test_batch_norm_is_frozen_in_a_copy():
    config = backbones.SmallResNetConfig(width=3, image_size=8, dimensions=2)
    network, pairs = config.build(generator(0)), _images()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    found = prediction.alignment_with_network(network, pairs)
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert all(0 <= value <= 1 + 1e-9 for value in found)
    with torch.no_grad():  # statistics of all 20 views together
        expected = network(torch.cat(pairs.evaluation()))[0].T
    assert torch.allclose(prediction.network_embeddings(network, pairs), expected, atol=1e-5)
    small = prediction.alignment_with_network(network, pairs, block_bytes=40_000, samples_at_once=3)
    assert small == pytest.approx(found, abs=1e-5)


def test_too_many_dimensions_are_one_sentence():
    with pytest.raises(kernel.KernelError, match="positive") as error:
        prediction.predict_embeddings(torch.eye(10, dtype=torch.float64), 6)
    assert "\n" not in str(error.value)


def test_pairs_of_one_run_out_of_several():
    first, second = _toy(0), _toy(1)
    both, network = stack_pairs([first, second]), _linear_network(_top_modes(first, 3))
    with pytest.raises(prediction.PredictionError, match=r"2 runs, .* pairs.select\(\[run\]\)"):
        prediction.alignment_with_network(network, both)
    expected = prediction.network_kernel(network, second)
    assert torch.equal(prediction.network_kernel(network, both.select([1])), expected)


def _digits(pairs=100):
    """Two noisy views of digits, divided by the rms of the clean centred pixels."""
    g = generator(0, "digits")
    images = torch.from_numpy(load_digits().data / 16).float()
    images = images - images.mean(0)
    chosen = images[torch.randperm(len(images), generator=g)[:pairs]]
    views = chosen + 0.15 * torch.randn(2, *chosen.shape, generator=g)
    return FixedPairs(*(views / images.square().mean().sqrt()))


def test_barlow_twins_on_digits_is_predicted_by_its_own_final_kernel():
    """Reference of three seeds: .98-.99 raw, .86-.88 centred; .81-.85, .73-.79 by the kernel at the start."""
    pairs = _digits()
    network = backbones.MLPConfig(inputs=64, hidden=(256,), dimensions=8).build(generator(0, "weights"))
    backbones.scale_parameters_(network, body=0.1, head=0.1)
    start = backbones.MLPConfig(inputs=64, hidden=(256,), dimensions=8).build(generator(0, "weights"))
    backbones.scale_parameters_(start, body=0.1, head=0.1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    samples, identity = torch.cat(pairs.evaluation()), torch.eye(8)
    for _ in range(2500):
        a, b = network(samples)[0].chunk(2)
        product = a.T @ b / len(a)
        loss = ((product + product.T) / 2 - identity).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 1e-3
    final = prediction.alignment_with_network(network, pairs)
    initial = prediction.alignment_with_network(network, pairs, kernel_network=start)
    assert final.random == 0.04
    assert final.raw > 0.95
    assert 0.8 < final.centred < 0.95
    assert initial.raw < 0.92
    assert initial.centred < final.centred
