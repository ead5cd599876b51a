"""Batched optimisers: every hyperparameter is a vector over a leading ``run`` axis.

An ensemble trains as one tensor program: parameter ``i`` of all runs is one tensor ``[run, ...]`` and is
updated in place by a handful of kernels, whatever the number of runs. The update rules are those of
:mod:`torch.optim`; the tests follow both step by step.

State can be cut down while training goes on (`BatchedOptimizer.take`): runs that diverged, or network nodes
that died, are dropped together with their moments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

PerRun = float | Sequence[float] | Tensor
Params = Sequence[Tensor]


class BatchedOptimizer:
    """What all batched optimisers share: parameters, per-run hyperparameters, state that can be cut.

    Args:
        params: tensors ``[run, ...]``, all with the same number of runs; `step` changes them in place.
        hyper: hyperparameters by name; a float (same for all runs) or a vector ``[run]``. Of these, only
            ``hyper["lr"]`` may be changed between steps.
    """

    slots: ClassVar[tuple[str, ...]] = ()

    def __init__(self, params: Params, **hyper: PerRun) -> None:
        self.params = list(params)
        if not self.params:
            raise ValueError("an optimiser needs at least one parameter tensor")
        runs, device = self.params[0].shape[0], self.params[0].device
        if any(p.shape[0] != runs for p in self.params):
            raise ValueError("all parameters of a batched optimiser need the same leading run axis")
        self.steps = 0
        # float64: 1 − 0.999 keeps only four digits in float32, which shows up as a wrong bias correction.
        self.hyper = {
            name: torch.as_tensor(value, dtype=torch.float64, device=device).expand(runs).clone()
            for name, value in hyper.items()
        }
        self.state = {slot: [torch.zeros_like(p) for p in self.params] for slot in self.slots}
        self._allocate()

    def _allocate(self) -> None:
        """Scratch space, so that a step allocates nothing of the size of a parameter."""
        self._shaped: dict[tuple[str, int], Tensor] = {}
        self._scratch = [torch.empty_like(p) for p in self.params]

    def _per_run(self, value: Tensor, like: Tensor) -> Tensor:
        """A ``[run]`` vector, shaped to broadcast against a parameter ``[run, ...]``."""
        return value.to(like.dtype).view(-1, *[1] * (like.ndim - 1))

    def _fixed(self, name: str, index: int) -> Tensor:
        """Hyperparameter ``name``, shaped for parameter ``index`` once: small problems are all overhead."""
        if (name, index) not in self._shaped:
            self._shaped[name, index] = self._per_run(self.hyper[name], self.params[index])
        return self._shaped[name, index]

    @torch.no_grad()
    def step(self, grads: Params) -> None:
        """Update the parameters in place. ``grads`` (same shapes) may be overwritten."""
        self.steps += 1
        for index, (param, grad) in enumerate(zip(self.params, grads, strict=True)):
            self._update(index, param, grad)

    def _update(self, index: int, param: Tensor, grad: Tensor) -> None:
        raise NotImplementedError

    def momentum_travel(self) -> list[Tensor]:
        """How far each entry would still move by its momentum alone if its gradient were zero from now on.

        Shaped like the parameters; an upper bound. It tells an entry at rest from one that passes by zero.
        """
        raise NotImplementedError

    def take(self, params: Params, select: Callable[[Tensor], Tensor], runs: Tensor | None = None) -> None:
        """Continue on other parameters, with the state cut in the same way.

        Args:
            params: the new parameter tensors, e.g. ``[select(p) for p in old]``.
            select: applied to each state tensor (shaped like its parameter); drops runs or entries.
            runs: indices of the runs that remain, ``None`` if all do.
        """
        self.params = list(params)
        self.state = {slot: [select(t) for t in tensors] for slot, tensors in self.state.items()}
        if runs is not None:
            self.hyper = {name: value[runs] for name, value in self.hyper.items()}
        for tensors in self.state.values():
            if [t.shape for t in tensors] != [p.shape for p in self.params]:
                raise ValueError("the selection gives state of another shape than the new parameters")
        self._allocate()

    def state_dict(self) -> dict[str, Tensor]:
        """The state as a flat dictionary of tensors: ``steps``, ``<slot>.<parameter index>``."""
        flat = {"steps": torch.tensor(self.steps)}
        for slot, tensors in self.state.items():
            flat |= {f"{slot}.{i}": t for i, t in enumerate(tensors)}
        return flat

    def load_state_dict(self, flat: Mapping[str, Tensor]) -> None:
        """Put back what `state_dict` gave; KeyError or ValueError if it does not fit these parameters."""
        self.steps = int(flat["steps"])
        for slot, tensors in self.state.items():
            for i, tensor in enumerate(tensors):
                saved = flat[f"{slot}.{i}"]
                if saved.shape != tensor.shape:
                    raise ValueError(
                        f"state {slot}.{i} has shape {tuple(saved.shape)}, not {tuple(tensor.shape)}"
                    )
                tensor.copy_(saved)


class BatchedAdam(BatchedOptimizer):
    """Adam with coupled L2 weight decay (``gradient += weight_decay · weight``), as `torch.optim.Adam`."""

    slots = ("exp_avg", "exp_avg_sq")
    decoupled: ClassVar[bool] = False

    def __init__(
        self,
        params: Params,
        *,
        lr: PerRun = 1e-3,
        weight_decay: PerRun = 0.0,
        beta1: PerRun = 0.9,
        beta2: PerRun = 0.999,
        eps: PerRun = 1e-8,
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, beta1=beta1, beta2=beta2, eps=eps)
        self.hyper |= {"gain1": 1 - self.hyper["beta1"], "gain2": 1 - self.hyper["beta2"]}

    def _allocate(self) -> None:
        super()._allocate()
        self._betas = torch.stack([self.hyper["beta1"], self.hyper["beta2"]])

    def _bias_corrections(self) -> Tensor:
        """1 − β₁ᵗ and 1 − β₂ᵗ, ``[2, run]``."""
        return 1 - self._betas**self.steps

    def _denominator(self, index: int, correction: Tensor) -> Tensor:
        """√v̂ + ε of parameter ``index``, in the scratch space; v̂ = v / ``correction``."""
        average_sq, scratch = self.state["exp_avg_sq"][index], self._scratch[index]
        torch.sqrt(average_sq, out=scratch)
        factor = self._per_run(correction.rsqrt(), scratch)
        return torch.addcmul(self._fixed("eps", index), scratch, factor, out=scratch)

    def _update(self, index: int, param: Tensor, grad: Tensor) -> None:
        h, average, average_sq = self.hyper, self.state["exp_avg"][index], self.state["exp_avg_sq"][index]
        scratch = self._scratch[index]
        if self.decoupled:
            param.mul_(self._per_run(1 - h["lr"] * h["weight_decay"], param))
        else:
            grad.addcmul_(param, self._fixed("weight_decay", index))
        average.lerp_(grad, self._fixed("gain1", index))
        torch.mul(grad, grad, out=scratch)
        average_sq.lerp_(scratch, self._fixed("gain2", index))
        first, second = self._bias_corrections()
        torch.div(average, self._denominator(index, second), out=scratch)
        # The learning rate stays a factor: in the denominator, a rate of zero would make 0/0.
        param.addcmul_(scratch, self._per_run(-h["lr"] / first, param))

    def momentum_travel(self) -> list[Tensor]:
        """Σ_t lr·β₁ᵗ|m| / (β₂^{t/2}√v + ε) ≤ lr |m| / (√v + ε) / (1 − β₁/√β₂)."""
        if self.steps == 0:
            return [torch.zeros_like(p) for p in self.params]
        h = self.hyper
        first, second = self._bias_corrections()
        reach = h["lr"] / first / (1 - h["beta1"] / h["beta2"].sqrt())
        return [
            self._per_run(reach, average) * average.abs() / self._denominator(i, second)
            for i, average in enumerate(self.state["exp_avg"])
        ]


class BatchedAdamW(BatchedAdam):
    """Adam with decoupled weight decay (``weight *= 1 − lr · weight_decay``), as `torch.optim.AdamW`."""

    decoupled = True

    def __init__(
        self,
        params: Params,
        *,
        lr: PerRun = 1e-3,
        weight_decay: PerRun = 1e-2,
        beta1: PerRun = 0.9,
        beta2: PerRun = 0.999,
        eps: PerRun = 1e-8,
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, beta1=beta1, beta2=beta2, eps=eps)


class BatchedSGD(BatchedOptimizer):
    """SGD with L2 weight decay, momentum, dampening and Nesterov's variant, as `torch.optim.SGD`."""

    slots = ("momentum_buffer",)

    def __init__(
        self,
        params: Params,
        *,
        lr: PerRun = 1e-3,
        weight_decay: PerRun = 0.0,
        momentum: PerRun = 0.0,
        dampening: PerRun = 0.0,
        nesterov: bool = False,
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, momentum=momentum, dampening=dampening)
        self.nesterov = nesterov
        # Without momentum, torch does not look at dampening at all.
        self.hyper["dampening"] = torch.where(self.hyper["momentum"] == 0, 0.0, self.hyper["dampening"])

    def _update(self, index: int, param: Tensor, grad: Tensor) -> None:
        h, buffer = self.hyper, self.state["momentum_buffer"][index]
        grad.addcmul_(param, self._per_run(h["weight_decay"], param))
        momentum = self._per_run(h["momentum"], param)
        if self.steps == 1:  # torch starts the buffer with the whole first gradient, undamped
            buffer.copy_(grad)
        else:
            buffer.mul_(momentum).addcmul_(grad, self._per_run(1 - h["dampening"], param))
        update = grad.addcmul_(buffer, momentum) if self.nesterov else buffer
        param.addcmul_(update, self._per_run(-h["lr"], param))

    def momentum_travel(self) -> list[Tensor]:
        """lr·μ|buffer| / (1 − μ)."""
        reach = self.hyper["lr"] * self.hyper["momentum"] / (1 - self.hyper["momentum"])
        return [self._per_run(reach, b) * b.abs() for b in self.state["momentum_buffer"]]


class PlainSGD(BatchedOptimizer):
    """SGD without momentum and weight decay: one pass over the parameters, no state."""

    def __init__(self, params: Params, *, lr: PerRun = 1e-3) -> None:
        super().__init__(params, lr=lr)

    def _update(self, index: int, param: Tensor, grad: Tensor) -> None:
        param.addcmul_(grad, self._per_run(-self.hyper["lr"], param))

    def momentum_travel(self) -> list[Tensor]:
        """Zero: there is no momentum."""
        return [torch.zeros_like(p) for p in self.params]


def by_name(
    name: Literal["sgd", "adam", "adamw"],
    params: Params,
    *,
    lr: Sequence[float],
    weight_decay: Sequence[float],
    momentum: Sequence[float],
) -> BatchedOptimizer:
    """The optimiser of that name with torch's other defaults, hyperparameters run by run.

    Only "sgd" looks at ``momentum``; without it and weight decay in every run it is `PlainSGD`.
    """
    if name == "sgd" and not any(momentum) and not any(weight_decay):
        return PlainSGD(params, lr=lr)
    if name == "sgd":
        return BatchedSGD(params, lr=lr, weight_decay=weight_decay, momentum=momentum)
    kind = BatchedAdam if name == "adam" else BatchedAdamW
    return kind(params, lr=lr, weight_decay=weight_decay)


class BatchedMuon(BatchedOptimizer):
    """Muon (orthogonalised momentum), as `torch.optim.Muon`; the last two axes of a parameter are the matrix.

    Args:
        transposed: for each parameter whether its last two axes hold the *transpose* of the (output, input)
            matrix that `torch.nn.Linear` would hold; it decides the learning-rate adjustment √max(1,
            outputs/inputs).
        newton_schulz_dtype: precision of the orthogonalisation. bfloat16 as in torch; None computes in the
            parameter's own precision, which keeps an ensemble equal to its runs trained alone.
    """

    slots = ("momentum_buffer",)
    coefficients: ClassVar[tuple[float, float, float]] = (3.4445, -4.7750, 2.0315)
    newton_schulz_steps: ClassVar[int] = 5
    norm_floor: ClassVar[float] = 1e-7

    def __init__(
        self,
        params: Params,
        *,
        lr: PerRun = 1e-3,
        weight_decay: PerRun = 0.1,
        momentum: PerRun = 0.95,
        nesterov: bool = True,
        transposed: Sequence[bool] | None = None,
        newton_schulz_dtype: torch.dtype | None = torch.bfloat16,
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay, momentum=momentum)
        if any(p.ndim < 3 for p in self.params):
            raise ValueError("Muon needs matrices: parameters of shape [run, ..., output, input]")
        self.nesterov = nesterov
        self.transposed = list(transposed) if transposed is not None else [False] * len(self.params)
        self.newton_schulz_dtype = newton_schulz_dtype

    def _update(self, index: int, param: Tensor, grad: Tensor) -> None:
        h, buffer = self.hyper, self.state["momentum_buffer"][index]
        buffer.lerp_(grad, self._per_run(1 - h["momentum"], param))
        update = grad.lerp_(buffer, self._per_run(h["momentum"], param)) if self.nesterov else buffer
        inputs, outputs = param.shape[-2:] if self.transposed[index] else param.shape[:-3:-1]
        adjustment = max(1.0, outputs / inputs) ** 0.5
        direction = orthogonalise(
            update,
            self.newton_schulz_dtype or param.dtype,
            self.coefficients,
            self.newton_schulz_steps,
            self.norm_floor,
        )
        param.mul_(self._per_run(1 - h["lr"] * h["weight_decay"], param))
        param.addcmul_(direction.to(param.dtype), self._per_run(-h["lr"] * adjustment, param))


def orthogonalise(
    matrices: Float[Tensor, "*batch rows columns"],
    dtype: torch.dtype,
    coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
    steps: int = 5,
    norm_floor: float = 1e-7,
) -> Float[Tensor, "*batch rows columns"]:
    """Newton–Schulz iteration towards the nearest (semi-)orthogonal matrix, batched over all leading axes.

    X ← aX + (bXXᵀ + c(XXᵀ)²)X from X = M/‖M‖_F, with torch's quintic coefficients, which bring each singular
    value to about 0.7–1.2 rather than to 1.

    Args:
        matrices: ``[*batch, rows, columns]``.
        dtype: precision of the iteration and of the result.
    """
    a, b, c = coefficients
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = (matrices.mT if tall else matrices).to(dtype)
    shape = x.shape
    x = x.reshape(-1, *shape[-2:])
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=norm_floor)
    for _ in range(steps):
        gram = x @ x.mT
        gram = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, gram, x, beta=a)
    x = x.view(shape)
    return x.mT if tall else x
