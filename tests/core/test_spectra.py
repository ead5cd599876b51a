"""Spectra against NumPy and SciPy, and the step statistics against trajectories whose answer is known."""

from importlib import resources

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from learndyn.core import spectra


def _normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


# --- matrices ------------------------------------------------------------------------------------------


def test_cross_covariance_is_the_sum_over_pairs():
    x, y = _normal(2, 7, 3), _normal(2, 7, 3, seed=1)
    for run in range(2):
        pairs = zip(x[run].numpy(), y[run].numpy(), strict=True)
        expected = sum(np.outer(u, v) + np.outer(v, u) for u, v in pairs) / 14
        np.testing.assert_allclose(spectra.cross_covariance(x, y)[run], expected, atol=1e-14)
        np.testing.assert_allclose(spectra.cross_correlation(x, y)[run], expected, atol=1e-14)


def test_centred_cross_correlation_subtracts_the_mean_of_each_view():
    a, b = _normal(9, 4) + 3, _normal(9, 4, seed=1) - 5
    expected = spectra.cross_covariance(a - a.mean(0), b - b.mean(0))
    torch.testing.assert_close(spectra.cross_correlation(a, b, centred=True), expected)


def test_embedding_covariance_is_numpys():
    a, b = _normal(9, 4) + 3, _normal(9, 4, seed=1) - 5
    expected = np.cov(np.concatenate((a, b)), rowvar=False, bias=True)
    np.testing.assert_allclose(spectra.embedding_covariance(a, b), expected, atol=1e-14)


def test_small_eigenvalues_of_float32_embeddings_survive():
    """Modes of very different size along the coordinates: float32 arithmetic would lose the small one."""
    a = torch.linalg.qr(_normal(40, 3) - _normal(40, 3).mean(0))[0] * torch.tensor([1.0, 1e-3, 1e-6])
    a = (a - a.mean(0)).float() @ torch.linalg.qr(_normal(3, 3))[0].float()
    exact = spectra.sorted_eigenvalues(spectra.embedding_covariance(a.double(), a.double()))
    ours = spectra.sorted_eigenvalues(spectra.embedding_covariance(a, a))
    torch.testing.assert_close(ours, exact, rtol=1e-6, atol=0)
    assert ours.dtype == torch.float64


# --- eigenvalues ---------------------------------------------------------------------------------------


def test_eigenvalues_are_scipys_signed_and_descending():
    gamma = spectra.cross_covariance(_normal(3, 5, 8), _normal(3, 5, 8, seed=1))
    values, vectors = spectra.sorted_eigh(gamma)
    torch.testing.assert_close(values, spectra.sorted_eigenvalues(gamma))
    for run in range(3):
        expected = np.sort(scipy.linalg.eigvalsh(gamma[run].numpy()))[::-1]
        np.testing.assert_allclose(values[run], expected, atol=1e-12)
        assert expected[-1] < -0.1  # or the order by magnitude would pass as well
        torch.testing.assert_close(gamma[run] @ vectors[run], vectors[run] * values[run])


def test_a_diverged_run_disturbs_no_other():
    matrices = torch.stack([torch.eye(3), torch.full((3, 3), torch.nan), 2 * torch.eye(3)]).double()
    matrices[1, 0, 0] = 1.0
    values, vectors = spectra.sorted_eigh(matrices)
    torch.testing.assert_close(values[::2], torch.tensor([[1.0] * 3, [2.0] * 3]).double())
    assert values[1].isnan().all()
    assert vectors[1].isnan().all()
    assert spectra.sorted_eigenvalues(matrices)[1].isnan().all()
    assert spectra.participation_ratio(values)[1].isnan()
    assert spectra.effective_rank(values)[1].isnan()
    other = _normal(3, 2, 6)
    broken = other.clone()
    broken[1] = torch.inf
    assert spectra.subspace_alignment(broken, other).isnan().tolist() == [False, True, False]


# --- ranks ---------------------------------------------------------------------------------------------

spectrum = arrays.arrays(np.float64, st.integers(1, 8), elements=st.floats(1e-6, 1e3))


@given(values=spectrum)
def test_ranks_are_the_plain_formulas(values):
    eigenvalues = torch.from_numpy(values)
    expected = sum(values) ** 2 / sum(values**2)
    assert spectra.participation_ratio(eigenvalues).item() == pytest.approx(expected)
    expected = np.exp(scipy.stats.entropy(values))  # normalises
    assert spectra.effective_rank(eigenvalues).item() == pytest.approx(expected)


@given(values=spectrum, exponent=st.integers(-200, 200))
def test_ranks_do_not_feel_scale_and_lie_between_one_and_the_dimension(values, exponent):
    eigenvalues = torch.from_numpy(values)
    for rank in (spectra.participation_ratio, spectra.effective_rank):
        value = rank(eigenvalues)
        torch.testing.assert_close(rank(eigenvalues * 10.0**exponent), value)
        assert 1 - 1e-9 <= value <= len(values) + 1e-9


@pytest.mark.parametrize("rank", [spectra.participation_ratio, spectra.effective_rank])
def test_k_equal_eigenvalues_have_rank_k_and_a_point_has_rank_zero(rank):
    eigenvalues = torch.tensor([[3.0, 3, 3, 0], [2, 0, 0, 0], [0, 0, 0, 0]])
    torch.testing.assert_close(rank(eigenvalues), torch.tensor([3.0, 1, 0]).double())


# --- steps ---------------------------------------------------------------------------------------------


def _logistic(times, centres, rates):
    """Curves [step, mode] that go from 0 to 1, at half height at their centres."""
    return 1 / (1 + torch.exp(-rates * (times[:, None] - centres)))


def test_half_times_are_the_first_logged_steps_above_half():
    times = torch.arange(0, 301, dtype=torch.float64)
    centres = torch.tensor([20.4, 100.0, 150.5]).double()
    finals = torch.tensor([4.0, 1.0, 1e-6]).double()
    curves = _logistic(times, centres, torch.tensor([0.5, 0.3, 0.2]).double()) * finals
    expected = [next(t for t in range(301) if curves[t, j] > curves[-1, j] / 2) for j in range(3)]
    assert expected[0] == 21
    for steps in (times, times.int()):
        assert spectra.half_times(steps, curves).tolist() == expected
    batch = torch.stack((curves, curves.flip(-1)))
    assert spectra.half_times(times, batch).tolist() == [expected, expected[::-1]]
    assert spectra.half_times(times / 10, curves).tolist() == pytest.approx([t / 10 for t in expected])


def test_a_curve_that_starts_high_has_its_half_time_at_the_start():
    curves = torch.tensor([[0.9], [0.2], [1.0]])
    assert spectra.half_times(torch.arange(3), curves).tolist() == [0]


def test_what_was_never_learned_has_no_half_time():
    """Final values: learned, zero, negative, not a number."""
    curves = torch.tensor([[0.0, 0, -2, 0], [1, 0, -1, 5], [1, 0, -1, torch.nan]])
    assert spectra.half_times(torch.arange(3), curves).isnan().tolist() == [False, True, True, True]
    assert spectra.half_separations(curves).isnan().all()
    assert spectra.clean_plateaus(curves) == 0


def test_separate_steps_are_clean_plateaus_and_simultaneous_ones_are_not():
    times = torch.arange(0, 1000, dtype=torch.float64)
    rates = torch.full((4,), 0.2, dtype=torch.float64)
    separate = _logistic(times, torch.tensor([100.0, 300, 500, 700]).double(), rates)
    paired = _logistic(times, torch.tensor([100.0, 300, 300, 700]).double(), rates)
    together = _logistic(times, torch.tensor([300.0, 300, 300, 300]).double(), rates)
    batch = torch.stack((separate, paired, together)) * torch.tensor([5.0, 4, 2, 0.1]).double()
    assert spectra.clean_plateaus(batch).tolist() == [3, 2, 0]
    separations = spectra.half_separations(batch)
    assert separations.shape == (3, 3)
    assert (separations[0] < 1e-15).all()
    torch.testing.assert_close(separations[1, 1], torch.tensor(0.5).double(), atol=0.05, rtol=0)
    torch.testing.assert_close(separations[2], torch.full((3,), 0.5).double(), atol=0.05, rtol=0)


@given(shift=st.floats(0, 30))
def test_half_separation_of_two_logistic_modes_is_the_follower_at_the_leaders_centre(shift):
    times = torch.arange(-40, 100, dtype=torch.float64)
    curves = _logistic(times, torch.tensor([-0.5, shift]).double(), torch.ones(2).double())
    expected = 1 / (1 + np.exp(shift))  # the leader exceeds 1/2 at the logged time 0
    assert spectra.half_separations(curves).item() == pytest.approx(expected, rel=1e-6)
    assert spectra.clean_plateaus(curves) == int(
        any(curves[i, 0] > 0.5 and curves[i, 1] < 0.1 for i in range(len(times)))
    )


# --- subspaces -----------------------------------------------------------------------------------------


def test_alignment_is_the_mean_squared_cosine_of_scipys_principal_angles():
    first, second = _normal(2, 4, 30), _normal(2, 4, 30, seed=1)
    second[1] = first[1] + 0.3 * second[1]
    for run in range(2):
        angles = scipy.linalg.subspace_angles(first[run].numpy().T, second[run].numpy().T)
        expected = np.mean(np.cos(angles) ** 2)
        ours = spectra.subspace_alignment(first, second)[run].item()
        assert ours == pytest.approx(expected, rel=1e-10)


@given(seed=st.integers(0, 2**31))
def test_alignment_belongs_to_the_row_spaces(seed):
    """Bases do not matter; the same space gives 1, an orthogonal one 0; the order is irrelevant."""
    f, g = _normal(3, 12, seed=seed), _normal(3, 12, seed=seed + 1)
    value = spectra.subspace_alignment(f, g)
    mixing = _normal(3, 3, seed=seed + 2) + 3 * torch.eye(3)
    torch.testing.assert_close(spectra.subspace_alignment(mixing @ f, g), value)
    torch.testing.assert_close(spectra.subspace_alignment(g, f), value)
    torch.testing.assert_close(spectra.subspace_alignment(f, mixing @ f).item(), 1.0)
    _, _, rows = torch.linalg.svd(f, full_matrices=True)
    assert spectra.subspace_alignment(f, rows[3:6]) < 1e-20


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_collapsed_embeddings_span_only_what_they_span(dtype):
    f = _normal(4, 20)
    collapsed = _normal(4, 2, seed=1) @ f[:2]  # rank 2, within the span of f
    f, collapsed = f.to(dtype), collapsed.to(dtype)
    assert spectra.subspace_alignment(collapsed, f).item() == pytest.approx(2 / 4, rel=1e-5)
    assert spectra.subspace_alignment(collapsed, collapsed).item() == pytest.approx(1)
    assert spectra.subspace_alignment(torch.zeros_like(f), f) == 0
    assert spectra.subspace_alignment(torch.zeros_like(f), torch.zeros_like(f)).isnan()


def test_a_tolerance_decides_which_directions_count():
    f = torch.eye(3, 10).double() * torch.tensor([1.0, 1.0, 1e-4]).double()[:, None]
    plane = torch.eye(2, 10).double()
    assert spectra.subspace_alignment(f, plane).item() == pytest.approx(2 / 3)
    assert spectra.subspace_alignment(f, plane, rtol=1e-3).item() == pytest.approx(1)


def test_random_subspaces_align_by_dimension_over_samples():
    """Simon et al. report 0.025, which is d = 50 among 2 · 1000 views; here d = 5 among 200."""
    values = spectra.subspace_alignment(_normal(400, 5, 200), _normal(400, 5, 200, seed=1))
    expected = spectra.random_alignment(5, 200)
    assert expected == 0.025
    assert abs(values.mean() - expected) < 4 * values.std() / 20
    assert spectra.random_alignment(50, 2000) == 0.025
    assert spectra.random_alignment(300, 200) == 1


# --- stored trajectories of trained networks -----------------------------------------------------------


def _stored_curves(name, kind, seed):
    """Steps and eigenvalues [step, mode] of a stored run."""
    file = resources.files("learndyn.ssl_dynamics.stepwise").joinpath(f"reference/curves_{name}.csv")
    table = np.genfromtxt(file.read_text().splitlines(), delimiter=",", names=True)
    table = table[table["seed"] == seed]
    eigenvalues = np.stack([table[f"{kind}_eig{j}"] for j in range(1, 9)], -1)
    return torch.from_numpy(table["step"].copy()), torch.from_numpy(eigenvalues)


@pytest.mark.parametrize(
    ("name", "kind", "seed", "half_times"),
    [
        ("mlp_bt", "crosscov", 0, (18, 43, 46, 63, 71, 104, 134, 143)),
        ("mlp_bt", "crosscov", 1, (18, 41, 57, 67, 75, 107, 125, 160)),
        ("resnet_vicreg", "cov", 0, (4, 19, 47, 359, 452, 581, 644, 743)),
    ],
)
def test_half_times_of_stored_runs(name, kind, seed, half_times):
    """Recorded half times; the curves were thinned afterwards, so the next stored step is to be found.

    (Not so in the other stored runs, whose eigenvalues overshoot half height for a step or two.)
    """
    steps, eigenvalues = _stored_curves(name, kind, seed)
    expected = [steps[steps >= time].min().item() for time in half_times]
    assert spectra.half_times(steps, eigenvalues).tolist() == expected


@pytest.mark.parametrize(
    ("name", "kind", "plateaus"),
    [
        ("mlp_bt", "crosscov", (6, 7, 5)),
        ("mlp_vicreg", "cov", (5, 5, 5)),
        ("resnet_bt", "cov", (7, 7, 6)),
        ("resnet_vicreg", "cov", (7, 7, 7)),
    ],
)
def test_clean_plateaus_of_stored_runs(name, kind, plateaus):
    for seed, expected in enumerate(plateaus):
        _, eigenvalues = _stored_curves(name, kind, seed)
        assert spectra.clean_plateaus(eigenvalues) == expected
        assert spectra.half_separations(eigenvalues).median() < 0.03
