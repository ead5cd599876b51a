"""The batched optimisers against torch.optim, run by run and step by step."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from learndyn.core import optim

RUNS, STEPS = 3, 30
LR, DECAY = [1e-3, 1e-2, 5e-2], [0.0, 1e-3, 0.1]
MOMENTUM = [0.0, 0.5, 0.95]


def _problem(dtype, shape=(4, 6)):
    """Parameters and a gradient that depends on them: (curvature · p) plus a recorded noise."""
    g = torch.Generator().manual_seed(0)
    start = torch.randn(RUNS, *shape, generator=g, dtype=torch.float64).to(dtype)
    curvature = torch.rand(RUNS, *shape, generator=g, dtype=torch.float64).to(dtype)
    noise = torch.randn(STEPS, RUNS, *shape, generator=g, dtype=torch.float64).to(dtype)
    return start, lambda step, p, run=slice(None): curvature[run] * p + noise[step, run]


def _batched(kind, dtype, **hyper):
    start, gradient = _problem(dtype)
    params = start.clone()
    optimizer = kind([params], **hyper)
    path = []
    for step in range(STEPS):
        optimizer.step([gradient(step, params)])
        path.append(params.clone())
    return torch.stack(path, 1)


def _torch(kind, dtype, run, **hyper):
    start, gradient = _problem(dtype)
    param = torch.nn.Parameter(start[run].clone())
    optimizer = kind([param], **hyper)
    path = []
    for step in range(STEPS):
        param.grad = gradient(step, param.detach(), run)
        optimizer.step()
        path.append(param.detach().clone())
    return torch.stack(path)


CASES = {
    "adam": (
        lambda dtype: _batched(
            optim.BatchedAdam,
            dtype,
            lr=LR,
            weight_decay=DECAY,
            beta1=MOMENTUM,
            beta2=[0.9, 0.99, 0.999],
            eps=1e-6,
        ),
        lambda dtype, r: _torch(
            torch.optim.Adam,
            dtype,
            r,
            lr=LR[r],
            weight_decay=DECAY[r],
            betas=(MOMENTUM[r], [0.9, 0.99, 0.999][r]),
            eps=1e-6,
        ),
    ),
    "adamw": (
        lambda dtype: _batched(optim.BatchedAdamW, dtype, lr=LR, weight_decay=DECAY),
        lambda dtype, r: _torch(torch.optim.AdamW, dtype, r, lr=LR[r], weight_decay=DECAY[r]),
    ),
    "sgd": (
        lambda dtype: _batched(
            optim.BatchedSGD, dtype, lr=LR, weight_decay=DECAY, momentum=MOMENTUM, dampening=[0.3, 0.2, 0.1]
        ),
        lambda dtype, r: _torch(
            torch.optim.SGD,
            dtype,
            r,
            lr=LR[r],
            weight_decay=DECAY[r],
            momentum=MOMENTUM[r],
            dampening=[0.3, 0.2, 0.1][r],
        ),
    ),
    "plain_sgd": (
        lambda dtype: _batched(optim.PlainSGD, dtype, lr=LR),
        lambda dtype, r: _torch(torch.optim.SGD, dtype, r, lr=LR[r]),
    ),
    "nesterov": (
        lambda dtype: _batched(
            optim.BatchedSGD, dtype, lr=LR, weight_decay=DECAY, momentum=[0.3, 0.5, 0.9], nesterov=True
        ),
        lambda dtype, r: _torch(
            torch.optim.SGD,
            dtype,
            r,
            lr=LR[r],
            weight_decay=DECAY[r],
            momentum=[0.3, 0.5, 0.9][r],
            nesterov=True,
        ),
    ),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 2e-5)])
def test_every_step_is_torchs(name, dtype, tolerance):
    batched, single = CASES[name]
    ours = batched(dtype)
    for run in range(RUNS):
        torch.testing.assert_close(ours[run], single(dtype, run), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (optim.BatchedAdam, torch.optim.Adam),
        (optim.BatchedAdamW, torch.optim.AdamW),
        (optim.BatchedSGD, torch.optim.SGD),
        (optim.PlainSGD, torch.optim.SGD),
    ],
)
def test_defaults_are_torchs(ours, theirs):
    single = _torch(theirs, torch.float64, 1)
    torch.testing.assert_close(_batched(ours, torch.float64)[1], single, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("momentum", [(0.0,) * RUNS, (0.0, 0.5, 0.9)])
@pytest.mark.parametrize("decay", [(0.0,) * RUNS, (0.0, 1e-3, 0.1)])
def test_by_name_every_step_is_torchs(name, momentum, decay):
    theirs = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]

    def ours(params, **hyper):
        return optim.by_name(name, params, **hyper)

    paths = _batched(ours, torch.float64, lr=LR, weight_decay=decay, momentum=momentum)
    for run in range(RUNS):
        own = {"momentum": momentum[run]} if name == "sgd" else {}
        single = _torch(theirs, torch.float64, run, lr=LR[run], weight_decay=decay[run], **own)
        torch.testing.assert_close(paths[run], single, atol=1e-12, rtol=1e-12)


def test_sgd_keeps_a_state_only_where_a_run_needs_it():
    params, zero = [torch.zeros(RUNS, 2)], [0.0] * RUNS
    plain = optim.by_name("sgd", params, lr=LR, weight_decay=zero, momentum=zero)
    assert set(plain.state_dict()) == {"steps"}
    for hyper in ({"momentum": MOMENTUM, "weight_decay": zero}, {"momentum": zero, "weight_decay": DECAY}):
        some = optim.by_name("sgd", params, lr=LR, **hyper)
        assert set(some.state_dict()) == {"steps", "momentum_buffer.0"}


def _muon(shape, transposed, monkeypatch, nesterov=True, newton_schulz_dtype=None):
    """Largest distance between our path and torch's for matrices of this shape."""
    start, gradient = _problem(torch.float64, shape)
    turn = (lambda t: t.mT.contiguous()) if transposed else (lambda t: t)
    params = turn(start).clone()
    ours = optim.BatchedMuon(
        [params],
        lr=LR,
        weight_decay=DECAY,
        momentum=MOMENTUM,
        nesterov=nesterov,
        transposed=[transposed],
        newton_schulz_dtype=newton_schulz_dtype,
    )
    singles = [torch.nn.Parameter(start[r].clone()) for r in range(RUNS)]
    theirs = [
        torch.optim.Muon([p], lr=LR[r], weight_decay=DECAY[r], momentum=MOMENTUM[r], nesterov=nesterov)
        for r, p in enumerate(singles)
    ]
    if newton_schulz_dtype is None:  # torch's Muon always computes in bfloat16; let it compute exactly
        monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
    gap = 0.0
    for step in range(STEPS):
        ours.step([turn(gradient(step, turn(params)))])
        for r, p in enumerate(singles):
            p.grad = gradient(step, p.detach(), r)
            theirs[r].step()
            gap = max(gap, float((turn(params)[r] - p.detach()).abs().max()))
    return gap


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("transposed", [True, False])
@pytest.mark.parametrize("shape", [(4, 6), (9, 3), (5, 5)])
def test_muon_is_torchs(shape, transposed, nesterov, monkeypatch):
    assert _muon(shape, transposed, monkeypatch, nesterov) < 1e-12


def test_muon_in_bfloat16_is_torchs_to_bfloat16(monkeypatch):
    # 30 steps of size ≤ 0.05·1.2 with a relative error of 2⁻⁸ per iteration
    assert _muon((4, 6), False, monkeypatch, newton_schulz_dtype=torch.bfloat16) < 0.05


def test_muon_defaults_are_torchs(monkeypatch):
    start, _ = _problem(torch.float64)
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda tensor: tensor.clone())
    params, single = start.clone(), torch.nn.Parameter(start[0].clone())
    optim.BatchedMuon([params], newton_schulz_dtype=None).step([start.clone()])
    single.grad = start[0].clone()
    torch.optim.Muon([single]).step()
    torch.testing.assert_close(params[0], single.detach(), atol=1e-12, rtol=0)


@settings(deadline=None, max_examples=25)
@given(st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**31))
def test_orthogonalise_keeps_the_singular_vectors(rows, columns, seed):
    m = torch.randn(2, 3, rows, columns, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    direction = optim.orthogonalise(m, torch.float64)
    u, s, vh = torch.linalg.svd(m, full_matrices=False)
    inner = u.mT @ direction @ vh.mT
    values = inner.diagonal(dim1=-2, dim2=-1)
    assert (inner - torch.diag_embed(values)).abs().max() < 1e-9
    relative = s / s.square().sum(-1, keepdim=True).sqrt()
    assert ((values > 0.65) & (values < 1.21))[relative > 0.02].all()


def _two_steps(kind, params, grads, **hyper):
    optimizer = kind([params], **hyper)
    for grad in grads:
        optimizer.step([grad.clone()])
    return optimizer


KINDS = [optim.BatchedAdam, optim.BatchedAdamW, optim.BatchedSGD, optim.PlainSGD, optim.BatchedMuon]


@pytest.mark.parametrize("kind", KINDS[:4])
def test_dropping_runs_and_columns_leaves_the_others_alone(kind):
    start, gradient = _problem(torch.float64)
    hyper = {"lr": LR} | ({} if kind is optim.PlainSGD else {"weight_decay": DECAY})
    whole = start.clone()
    optimizer = _two_steps(kind, whole, [gradient(0, start), gradient(1, start)], **hyper)
    runs, columns = torch.tensor([2, 0]), torch.tensor([5, 1, 2])

    def cut(tensor):
        return tensor[runs][..., columns].contiguous()

    part = cut(whole)
    other = _two_steps(kind, start.clone(), [gradient(0, start), gradient(1, start)], **hyper)
    other.take([part], cut, runs)
    for step in (2, 3):
        grad = gradient(step, start)
        optimizer.step([grad.clone()])
        other.step([cut(grad)])
    torch.testing.assert_close(part, cut(whole), atol=1e-14, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_state_round_trip_continues_bit_for_bit(kind):
    start, gradient = _problem(torch.float32)
    params = start.clone()
    optimizer = _two_steps(kind, params, [gradient(0, start), gradient(1, start)], lr=LR)
    state = {name: tensor.clone() for name, tensor in optimizer.state_dict().items()}
    copy = params.clone()
    resumed = kind([copy], lr=LR)
    resumed.load_state_dict(state)
    for step in (2, 3):
        optimizer.step([gradient(step, start)])
        resumed.step([gradient(step, start)])
    assert torch.equal(params, copy)


@pytest.mark.parametrize("kind", KINDS[:3])
def test_momentum_travel_bounds_the_way_without_gradient(kind):
    start, gradient = _problem(torch.float64)
    params = start.clone()
    hyper = {"momentum": 0.9} if kind is optim.BatchedSGD else {}
    optimizer = _two_steps(
        kind, params, [gradient(0, start), gradient(1, start)], lr=LR, weight_decay=0.0, **hyper
    )
    (bound,), before = optimizer.momentum_travel(), params.clone()
    for _ in range(300):
        optimizer.step([torch.zeros_like(params)])
    travelled = (params - before).abs()
    assert (travelled <= bound * (1 + 1e-9)).all()
    assert (travelled > 0.3 * bound).any()  # a bound of the right size


def test_a_nan_stays_in_its_run():
    start, gradient = _problem(torch.float64)
    clean, dirty = start.clone(), start.clone()
    dirty[1] = torch.nan
    for params in (clean, dirty):
        optimizer = optim.BatchedAdam([params], lr=LR)
        for step in range(3):
            optimizer.step([gradient(step, params)])
    assert torch.equal(clean[[0, 2]], dirty[[0, 2]])
    assert dirty[1].isnan().all()


def test_without_momentum_nothing_travels():
    optimizer = _two_steps(optim.PlainSGD, torch.ones(RUNS, 2), [torch.ones(RUNS, 2)], lr=LR)
    assert torch.equal(optimizer.momentum_travel()[0], torch.zeros(RUNS, 2))


def test_refusals():
    with pytest.raises(ValueError, match="same leading run axis"):
        optim.BatchedAdam([torch.zeros(2, 3), torch.zeros(3, 3)])
    with pytest.raises(ValueError, match="at least one"):
        optim.BatchedAdam([])
    with pytest.raises(ValueError, match="needs matrices"):
        optim.BatchedMuon([torch.zeros(2, 3)])
    optimizer = optim.BatchedAdam([torch.zeros(2, 3)])
    with pytest.raises(ValueError, match="another shape"):
        optimizer.take([torch.zeros(2, 2)], lambda tensor: tensor)
    state = optim.BatchedAdam([torch.zeros(2, 4)]).state_dict()
    with pytest.raises(ValueError, match="shape"):
        optimizer.load_state_dict(state)


def test_the_learning_rate_may_change_between_steps():
    start, gradient = _problem(torch.float64)
    params, single = start.clone(), torch.nn.Parameter(start[0].clone())
    ours, theirs = optim.BatchedAdam([params], lr=LR[0]), torch.optim.Adam([single], lr=LR[0])
    for step in range(6):
        ours.hyper["lr"] = ours.hyper["lr"] * 0.5
        theirs.param_groups[0]["lr"] *= 0.5
        single.grad = gradient(step, single.detach(), 0)
        ours.step([gradient(step, params)])
        theirs.step()
    torch.testing.assert_close(params[0], single.detach(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("kind", KINDS[:4])
def test_a_learning_rate_of_zero_holds_the_weights(kind):
    params = torch.ones(RUNS, 2, 2, dtype=torch.float64)
    hyper = {} if kind is optim.PlainSGD else {"weight_decay": 0.0}
    optimizer = kind([params], lr=[0.0, 0.1, 0.0], **hyper)
    for _ in range(3):
        grad = torch.ones_like(params)
        grad[..., 0] = 0.0  # an entry whose moments stay zero
        optimizer.step([grad])
    assert torch.equal(params[[0, 2]], torch.ones(2, 2, 2, dtype=torch.float64))
    assert (params[1, :, 1] < 1).all()
