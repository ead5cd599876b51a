"""Softmax regression with an L2 penalty, many problems at once: the solver behind the linear probe."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float64, Int
from torch import Tensor

_History = list[tuple[Tensor, Tensor, Tensor]]
_MEMORY = 20  # steps that L-BFGS remembers


def softmax_regression(
    x: Float64[Tensor, "problem sample feature"],
    targets: Float64[Tensor, "class sample"],
    decay: float,
    *,
    tolerance: float,
    max_iterations: int,
) -> tuple[
    Float64[Tensor, "problem class feature_and_bias"],
    Float64[Tensor, "problem"],
    Bool[Tensor, "problem"],
    Int[Tensor, "problem"],
]:
    """Minimise (1/n) Σ_i CE(w·x_i + b, y_i) + decay |w|²/2 for each problem, by L-BFGS.

    The metric that L-BFGS starts from is Böhning's bound of the Hessian, ½ XᵀX/n + decay, so that features
    of rapidly falling variance (embeddings of low rank) cost few iterations more than white ones. Its line
    search needs no product with the features, since logits are linear along a line. A problem that has
    converged is dropped from the computation at once.

    Args:
        x: features of mean zero over the samples.
        targets: one-hot labels, shared by all problems.
        decay: factor of |w|²/2; positive.
        tolerance: on the gradient's norm in the metric above. Its square is the error of the objective, up to
            a factor: how much flatter the objective is than the bound.
        max_iterations: where to stop anyway.

    Returns:
        Weights with the bias as last feature, objective, whether the tolerance was met, iterations.
    """
    everything = problem = _Softmax(x, targets, decay)
    theta = x.new_zeros(len(x), len(targets), x.shape[-1] + 1)
    solution = theta.clone()
    iterations = torch.zeros(len(x), dtype=torch.int64, device=x.device)
    converged = torch.zeros_like(iterations, dtype=torch.bool)
    alive = torch.arange(len(x), device=x.device)
    logits, value = problem.logits(theta), problem.objective(theta)
    gradient = problem.gradient(theta, logits)
    scaled = problem.precondition(gradient)
    history: _History = []
    for iteration in range(max_iterations + 1):
        small = _dot(gradient, scaled) <= tolerance**2
        converged[alive] = small
        stop = small if iteration < max_iterations else torch.ones_like(small)
        if stop.any():
            solution[alive[stop]], iterations[alive[stop]] = theta[stop], iteration
            if stop.all():
                break
            state = (alive, theta, logits, value, gradient, scaled)
            alive, theta, logits, value, gradient, scaled = (t[~stop] for t in state)
            history = [(s[~stop], y[~stop], p[~stop]) for s, y, p in history]
            problem = problem.take(~stop)
        step = _direction(gradient, scaled, history)
        slope = problem.logits(step)
        line = _Line(problem, theta, logits, step, slope)
        length, value = _line_search(line, value, _dot(gradient, step))
        length = length[:, None, None]
        theta, logits = torch.addcmul(theta, length, step), torch.addcmul(logits, length, slope)
        before = gradient, scaled
        gradient = problem.gradient(theta, logits)
        scaled = problem.precondition(gradient)
        history = [*history, (length * step, gradient - before[0], scaled - before[1])][-_MEMORY:]
    return solution, everything.objective(solution), converged, iterations


class _Softmax:
    """Penalised softmax regressions; parameters `[problem, class, feature + 1]`, the bias being the last.

    Logits are `[problem, class, sample]`: sums over classes then run along whole vectors of samples.

    Args:
        x: centred features `[problem, sample, feature]`.
        targets: one-hot labels `[class, sample]`.
        decay: factor of |w|²/2.
        factor: Cholesky factor of the Hessian's bound, computed unless given.
    """

    def __init__(self, x: Tensor, targets: Tensor, decay: float, factor: Tensor | None = None) -> None:
        self.x, self.targets, self.decay = x, targets, decay
        if factor is None:
            # Böhning 1992: the Hessian of softmax is at most ½ (I − 11ᵀ/K). Centred features: no cross term.
            bound = (x.mT @ x).mul_(0.5 / x.shape[-2])
            bound.diagonal(dim1=-2, dim2=-1).add_(decay)
            factor = torch.linalg.cholesky(bound)
        self.factor = factor

    def take(self, keep: Tensor) -> _Softmax:
        """These problems only."""
        return _Softmax(self.x[keep], self.targets, self.decay, self.factor[keep])

    def precondition(self, gradient: Tensor) -> Tensor:
        """The inverse of the bound, applied to a gradient."""
        body = torch.cholesky_solve(gradient[..., :-1].mT, self.factor).mT
        return torch.cat([body, 2 * gradient[..., -1:]], -1)

    def logits(self, theta: Tensor) -> Tensor:
        return torch.baddbmm(theta[..., -1:], theta[..., :-1], self.x.mT)

    def gradient(self, theta: Tensor, logits: Tensor) -> Tensor:
        residual = (logits.softmax(-2) - self.targets).div_(self.x.shape[-2])
        body = torch.baddbmm(theta[..., :-1], residual, self.x, beta=self.decay)
        return torch.cat([body, residual.sum(-1, keepdim=True)], -1)

    def objective(self, theta: Tensor) -> Tensor:
        logits, w = self.logits(theta), theta[..., :-1]
        fit = logits.logsumexp(-2).mean(-1) - (logits * self.targets).sum((-2, -1)) / logits.shape[-1]
        return fit + 0.5 * self.decay * _dot(w, w)


class _Line:
    """The objective along `theta + length · step`, which needs no product with the features."""

    def __init__(self, problem: _Softmax, theta: Tensor, logits: Tensor, step: Tensor, slope: Tensor) -> None:
        self.logits, self.slope = logits, slope
        w, p, samples = theta[..., :-1], step[..., :-1], logits.shape[-1]
        self.squares = [problem.decay * _dot(a, b) for a, b in ((w, w), (w, p), (p, p))]
        self.linear = [(z * problem.targets).sum((-2, -1)) / samples for z in (logits, slope)]

    def __call__(self, length: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Objective and its first two derivatives, `[problem]` each."""
        at = torch.addcmul(self.logits, length[:, None, None], self.slope)
        largest = at.amax(-2, keepdim=True)
        weight = at.sub_(largest).exp_()
        norm = weight.sum(-2)
        weighted = weight.mul_(self.slope)
        mean = weighted.sum(-2) / norm
        square = weighted.mul_(self.slope).sum(-2) / norm
        (ww, wp, pp), (here, ahead) = self.squares, self.linear
        value = (largest.squeeze(-2) + norm.log()).mean(-1) - here - length * ahead
        return (
            value + 0.5 * ww + length * (wp + 0.5 * length * pp),
            mean.mean(-1) - ahead + wp + length * pp,
            (square - mean.square()).mean(-1) + pp,
        )


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum((-2, -1))


def _line_search(line: _Line, start: Tensor, descent: Tensor) -> tuple[Tensor, Tensor]:
    """Length along a descent step, and the objective there: Newton's method kept within a bracket.

    Along a line the objective is convex, so the sign of its derivative tells the side of the minimum. Ends
    when the derivative has shrunk to a quarter of `descent`, its value at 0: more does not save steps.
    """
    low = torch.zeros_like(start)
    high, length = torch.full_like(start, math.inf), torch.ones_like(start)
    for _ in range(30):
        value, first, second = line(length)
        lower = value <= start + 1e-14 * start.abs()
        done = lower & (first.abs() <= 0.25 * descent.abs())
        if done.all():
            break
        below = lower & (first < 0)
        low, high = torch.where(below, length, low), torch.where(below, high, length)
        newton = length - first / second
        middle = torch.where(high.isinf(), 2 * low, (low + high) / 2)
        length = torch.where(done, length, torch.where((newton > low) & (newton < high), newton, middle))
    return length, value


def _direction(gradient: Tensor, preconditioned: Tensor, history: _History) -> Tensor:
    """L-BFGS direction (Nocedal & Wright, algorithm 7.4), with the bound of the Hessian as initial metric.

    The history holds steps, changes of the gradient, and those changes preconditioned: the preconditioner is
    linear, so that it need not be applied again.
    """
    q, r, factors = gradient, preconditioned, []
    for s, y, preconditioned_y in reversed(history):
        rho = 1 / _dot(s, y)
        a = rho * _dot(s, q)
        q, r = q - a[:, None, None] * y, r - a[:, None, None] * preconditioned_y
        factors.append((rho, a))
    if history:
        s, y, preconditioned_y = history[-1]
        r = r * (_dot(s, y) / _dot(y, preconditioned_y))[:, None, None]
    for (s, y, _), (rho, a) in zip(history, reversed(factors), strict=True):
        r = r + (a - rho * _dot(y, r))[:, None, None] * s
    return -r
