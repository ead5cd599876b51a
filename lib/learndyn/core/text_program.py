"""The state of an ensemble of language models between two steps: parameters, optimisers, log, remaining runs.

`learndyn.core.text_training.train` has it driven by `learndyn.core.ensemble.drive`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from learndyn.core import ensemble, optim, transformer
from learndyn.core.device import keep_freed_memory, precision
from learndyn.core.text import LanguageData
from learndyn.core.text_settings import TextConfig

#: Tokens that are evaluated together, on the CPU and on a GPU.
_EVALUATED_TOKENS = {"cpu": 1400, "cuda": 2**12}


@dataclass(frozen=True)
class Measure:
    """A quantity to log at evaluations: ``function`` maps the parameters, ``[run, ...]`` by name (as in
    `core.transformer.initial_parameters`), to a tensor ``[run, *dims]``."""

    name: str
    dims: tuple[str, ...]
    function: Callable[[Mapping[str, Tensor]], Tensor]


class TextProgram:
    """An ensemble in training, as `learndyn.core.ensemble.Program` wants it.

    Args:
        measures: to log beside the validation loss and the attention entropies.
        strict: raise at the first run that diverges.
    """

    def __init__(
        self,
        config: TextConfig,
        data: LanguageData,
        device: torch.device,
        measures: Sequence[Measure] = (),
        *,
        strict: bool = False,
    ) -> None:
        keep_freed_memory()
        self.config, self.device, self.dtype = config, device, precision(config.dtype)
        self.data, self.measures = data.to(device), tuple(measures)
        self.architecture = config.architecture(len(data.vocabulary))
        self.epoch = data.train.windows(config.window_length)
        self.rows = torch.arange(config.runs, device=device)
        self._set_parameters(self._initial())
        self.optimizers = self._new_optimizers()
        self.dropout = self._new_dropout()
        self.statuses = ensemble.Statuses(_names(config), strict=strict)
        self.log = ensemble.Logbook(config.runs, config.logged_steps, device)
        self.evaluations = ensemble.Logbook(config.runs, config.evaluation_steps, device)
        self.maps = ensemble.Logbook(config.runs, config.snapshot_steps)
        self._watched = 0

    def _initial(self) -> transformer.Parameters:
        runs = [
            transformer.initial_parameters(
                self.architecture, seed, identical_layers=self.config.identical_layers
            )
            for seed in self.config.seed
        ]
        return {
            name: torch.stack([run[name] for run in runs]).to(self.device, self.dtype) for name in runs[0]
        }

    def _set_parameters(self, parameters: Mapping[str, Tensor]) -> None:
        """Autograd follows the layers only; the gradients of the others are written out."""
        separate = ("embedding", *transformer.DECODER)
        self.parameters = {
            name: tensor.requires_grad_(name not in separate) for name, tensor in parameters.items()
        }
        self.layer_names = [name for name in parameters if name not in separate]

    def _groups(self) -> tuple[list[str], list[str]]:
        """The parameters that have their own rate, and the others."""
        hidden = [name for name in self.parameters if transformer.is_hidden_layer(name)]
        return hidden, [name for name in self.parameters if name not in hidden]

    def _remaining(self) -> TextConfig:
        return self.config.select(self.rows.tolist())

    def _new_optimizers(self) -> list[optim.BatchedOptimizer]:
        """One for the ReLU networks, one for everything else."""
        config = self._remaining()
        factors = (config.hidden_rate_factor, (1.0,) * config.runs)
        return [
            optim.by_name(
                config.optimizer,
                [self.parameters[name] for name in names],
                lr=[rate * factor for rate, factor in zip(config.learning_rate, by, strict=True)],
                weight_decay=config.weight_decay,
                momentum=config.momentum,
            )
            for names, by in zip(self._groups(), factors, strict=True)
        ]

    def _new_dropout(self) -> transformer.Dropout:
        config = self._remaining()
        return transformer.Dropout(config.seed, config.dropout, self.dtype, self.device)

    def advance(self, step: int, *, logged: bool) -> None:
        """One step; the log, evaluations and maps take the state before it."""
        self._observe(step)
        if self.config.reset_moments and step and step % self.epoch == 0:
            self.optimizers = self._new_optimizers()
        gradients, loss = self._gradients(step, losses=logged)
        if loss is not None:
            self.log.record(step, self.rows, train_loss=loss)
        if self.config.clip_norm is not None:
            clip_(list(gradients.values()), self.config.clip_norm)
        for names, optimizer in zip(self._groups(), self.optimizers, strict=True):
            optimizer.step([gradients[name] for name in names])

    def finish(self, step: int) -> None:
        """Log the state at the end."""
        if not len(self.rows) or not self.maintain(step):
            return
        self._observe(step)
        _, loss = self._gradients(step, losses=True)
        self.log.record(step, self.rows, train_loss=loss)
        self._watch(step + 1)

    def _gradients(self, step: int, *, losses: bool) -> tuple[dict[str, Tensor], Tensor | None]:
        """The gradient of each run's loss on the step's batch, and the losses if asked for."""
        inputs, targets = self.data.train.window(step % self.epoch, self.config.window_length)
        columns, length = inputs.shape
        autocast = self.config.autocast == "bfloat16"
        embedded = transformer.embed(self.parameters["embedding"], inputs).requires_grad_()
        masks = self.dropout.masks(step, self.architecture, columns, length)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=autocast):
            hidden = transformer.encode(self.parameters, embedded, self.architecture, length, masks)
        weight, bias = (self.parameters[name] for name in transformer.DECODER)
        decoder = transformer.decoder_gradients(
            hidden.detach(), weight, bias, targets.flatten(), losses=losses, autocast=autocast
        )
        leaves = [embedded, *(self.parameters[name] for name in self.layer_names)]
        gradient, *rest = torch.autograd.grad(hidden, leaves, decoder.hidden)
        vocabulary = self.architecture.vocabulary
        gradients = dict(zip(self.layer_names, rest, strict=True))
        gradients["embedding"] = transformer.embedding_gradient(gradient, inputs, vocabulary)
        gradients |= dict(zip(transformer.DECODER, (decoder.weight, decoder.bias), strict=True))
        return gradients, decoder.loss

    @torch.no_grad()
    def _observe(self, step: int) -> None:
        """Evaluate and keep maps if it is time for that."""
        if step in self.evaluations.steps:
            values = self._evaluate()
            values |= {measure.name: measure.function(self.parameters) for measure in self.measures}
            self.evaluations.record(step, self.rows, **values)
        if step in self.maps.steps:
            inputs, _ = self.data.train.window(self.config.map_window, self.config.window_length)
            _, weights = self._forward(inputs[:1])
            self.maps.record(step, self.rows.cpu(), maps=torch.stack([w[:, 0] for w in weights], 1).cpu())

    def _forward(self, inputs: Int[Tensor, "column position"]) -> tuple[Tensor, list[Tensor]]:
        """Last hidden states and attention weights of each layer, without dropout."""
        weights: list[Tensor] = []
        embedded = transformer.embed(self.parameters["embedding"], inputs)
        hidden = transformer.encode(
            self.parameters, embedded, self.architecture, inputs.shape[1], weights=weights
        )
        return hidden, weights

    def _evaluate(self) -> dict[str, Tensor]:
        """Mean loss of all tokens, mean entropy of all query rows of the windows of full length."""
        weight, bias = (self.parameters[name] for name in transformer.DECODER)
        loss = torch.zeros(len(self.rows), dtype=torch.float64, device=self.device)
        entropy = torch.zeros(len(self.rows), self.config.layers, dtype=torch.float64, device=self.device)
        tokens = rows = 0
        for inputs, targets in self._validation():
            hidden, weights = self._forward(inputs)
            losses = transformer.token_losses(hidden, weight, bias, targets.flatten())
            loss += losses.sum(1, dtype=torch.float64)
            tokens += targets.numel()
            if inputs.shape[1] == self.config.window_length:
                means = [
                    torch.special.entr(w).sum(-1).flatten(1).mean(1, dtype=torch.float64) for w in weights
                ]
                entropy += inputs.numel() * torch.stack(means, 1)
                rows += inputs.numel()
        values = {"validation_loss": loss / tokens, "attention_entropy": entropy / rows}
        return {name: value.to(self.dtype) for name, value in values.items()}

    def _validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Validation windows of equal length side by side, a few at a time."""
        stream, length = self.data.validation, self.config.window_length
        chosen = self.config.validation_windows or range(stream.windows(length))
        together = max(1, _EVALUATED_TOKENS[self.device.type] // (stream.columns * length))
        whole = stream.windows(length, drop_short=True)
        full, short = [i for i in chosen if i < whole], [i for i in chosen if i >= whole]
        for group in [*(full[i : i + together] for i in range(0, len(full), together)), short]:
            if group:
                inputs, targets = zip(*(stream.window(index, length) for index in group), strict=True)
                yield torch.cat(inputs), torch.cat(targets)

    def maintain(self, step: int) -> bool:
        """Drop the runs that diverged; false if none is left."""
        self._watch(step)
        return len(self.rows) > 0

    def _watch(self, step: int) -> None:
        """Look at the losses logged since the last time, and at the parameters now (the log is sparse)."""
        finite = torch.stack([p.detach().isfinite().flatten(1).all(1) for p in self.parameters.values()])
        kept = self.statuses.survivors(
            self.log,
            "train_loss",
            self.rows,
            finite.all(0),
            since=self._watched,
            step=step,
            blank=self._blank,
        )
        self._watched = step
        if len(kept) == len(self.rows):
            return
        self._take(kept.to(self.device))

    def _take(self, kept: Int[Tensor, " kept"]) -> None:
        """Go on with the runs at these places."""
        self.rows = self.rows[kept]
        if not len(kept):
            return
        self._set_parameters({name: tensor.detach()[kept] for name, tensor in self.parameters.items()})
        for names, optimizer in zip(self._groups(), self.optimizers, strict=True):
            optimizer.take([self.parameters[name] for name in names], lambda tensor: tensor[kept], kept)
        self.dropout = self._new_dropout()

    def _blank(self, run: int) -> None:
        """What was logged between a divergence and its discovery is no result."""
        for book in (self.log, self.evaluations, self.maps):
            book.blank(run, after=self.statuses[run].step)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that decides the rest of the training and its result, as flat tensors."""
        own = {"rows": self.rows, "watched": torch.tensor(self._watched)}
        parts = {
            "parameter": self.parameters,
            "log": self.log.values,
            "evaluation": self.evaluations.values,
            "map": self.maps.values,
            "status": self.statuses.state_dict(),
        }
        parts |= {f"optimizer{i}": optimizer.state_dict() for i, optimizer in enumerate(self.optimizers)}
        return ensemble.flat_state(own, parts)

    def load_state_dict(self, flat: Mapping[str, Tensor]) -> None:
        """Put back, into a program that has not begun, what `state_dict` gave."""
        part = partial(ensemble.part_of, flat, device=self.device)
        self._take(flat["rows"].to(self.device))
        if len(self.rows):
            saved = part("parameter")
            for name, parameter in self.parameters.items():
                parameter.detach().copy_(saved[name])
            for i, optimizer in enumerate(self.optimizers):
                optimizer.load_state_dict(part(f"optimizer{i}"))
        self.log.values, self.evaluations.values = part("log"), part("evaluation")
        self.maps.values = part("map", device="cpu")
        self.statuses.load_state_dict(part("status", device="cpu"))
        self._watched = int(flat["watched"])


@torch.no_grad()
def clip_(gradients: Sequence[Float[Tensor, "run ..."]], norm: float) -> Float[Tensor, " run"]:
    """Scale each run's gradient, all tensors as one vector, down to that norm if it is longer; in place.

    As `torch.nn.utils.clip_grad_norm_` does for one run. Returns the norms before.
    """
    parts = [torch.linalg.vector_norm(gradient.flatten(1), dim=1) for gradient in gradients]
    norms = torch.linalg.vector_norm(torch.stack(parts), dim=0)
    factors = (norm / (norms + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))
    return norms


def _names(config: TextConfig) -> list[str]:
    return [
        f"seed {seed}, learning_rate {rate:g}"
        for seed, rate in zip(config.seed, config.learning_rate, strict=True)
    ]
