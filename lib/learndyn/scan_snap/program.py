"""The state of an ensemble of finite-length trainings between two steps: parameters, optimisers, log.

`learndyn.scan_snap.training.train` has it driven by `learndyn.core.ensemble.drive`. Runs of one task make
up `TaskRuns`, in which their parameters carry the ``run`` axis; ``rows`` says where each belongs in the
ensemble.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from learndyn.core import ensemble, optim
from learndyn.core.device import keep_freed_memory, precision
from learndyn.scan_snap.settings import TrainConfig
from learndyn.scan_snap.step import Block, CountStep, Room
from learndyn.scan_snap.streams import Slabs, Stream, slabs, stream

#: On a CPU, runs of one task train together only as far as a step's tensors stay in the processor's last
#: cache. In smaller parts, the calls cost more than that saves.
CACHE_BYTES = 32 * 2**20


class TaskRuns:
    """Runs of one task in training.

    Args:
        rows: the runs' places in ``config``.
        streams: by task and seed; those that are missing are added.
        room: memory to compute in, shared with other runs.
    """

    def __init__(
        self,
        config: TrainConfig,
        rows: Sequence[int],
        streams: dict[tuple[int, int], Stream],
        room: Room,
        device: torch.device,
    ) -> None:
        self.config, self.device, self.dtype = config, device, precision(config.dtype)
        place = config.task[rows[0]]
        self.task = config.tasks[place]
        self.rows = torch.tensor(rows, device=device)
        seeds = list(dict.fromkeys(config.seed[row] for row in rows))
        for seed in seeds:
            if (place, seed) not in streams:
                streams[place, seed] = stream(self.task, seed, config.batch_size, config.rng)
        self.streams = [streams[place, seed] for seed in seeds]
        self.stream_of = torch.tensor([seeds.index(config.seed[row]) for row in rows], device=device)
        zero = config.initialisation == "zero"
        self.evaluate = CountStep(
            self.task,
            batch_size=config.batch_size,
            normalize=config.normalize,
            residual=config.residual,
            attend_query=config.attend_query,
            merged=zero,
            room=room,
        )
        self.start_decoder, self.start_attention = self._start(zero)
        self.decoder = [self._decoder_part(block) for block in self.evaluate.blocks]
        self.attention = [self._attention_part(block) for block in self.evaluate.blocks]
        if not config.keep_decoder:
            self.start_decoder = None  # from here on, only `full_decoder` needs it
        chosen = config.select(rows)
        self.optimizers = [
            _optimizer(config, self.decoder, chosen.decoder_rate),
            _optimizer(config, self.attention, chosen.attention_rate),
        ]

    def _start(self, zero: bool) -> tuple[Tensor | None, Tensor]:
        """Initial Y ``[stream, token, token]`` (None for zero) and Z ``[stream, query, token]``."""
        size, queries = self.task.vocabulary, self.task.queries
        if zero:
            return None, torch.zeros(len(self.streams), queries, size, dtype=self.dtype, device=self.device)
        decoders, attentions = zip(*(each.initial() for each in self.streams), strict=True)
        kind = {"device": self.device, "dtype": self.dtype}
        scale = self.config.init_scale
        return (scale * torch.stack(decoders)).to(**kind), (scale * torch.stack(attentions)).to(**kind)

    def _decoder_part(self, block: Block) -> Float[Tensor, "run group member column"]:
        shape = (len(self.rows), block.groups, block.members, self.evaluate.columns)
        if self.start_decoder is None:
            return torch.zeros(shape, dtype=self.dtype, device=self.device)
        part = self.start_decoder[:, block.tokens][..., self._columns()]
        return part[self.stream_of].view(shape)

    def _columns(self) -> Tensor:
        """Token of every column: labels first."""
        labels = torch.as_tensor(self.task.next_tokens, device=self.device)
        never = torch.ones(self.task.vocabulary, dtype=torch.bool, device=self.device)
        never[labels] = False
        return torch.cat([labels, never.nonzero()[:, 0]])

    def _attention_part(self, block: Block) -> Float[Tensor, "run group member"]:
        part = self.start_attention[..., block.tokens]
        if block.groups == 1:
            return part[self.stream_of].contiguous()
        per_query = block.groups // self.task.queries
        sets = part.view(len(part), self.task.queries, self.task.queries, per_query, block.members)
        own = sets.diagonal(dim1=1, dim2=2).permute(0, 3, 1, 2)  # every query's own tokens
        return own.reshape(len(part), block.groups, block.members)[self.stream_of]

    def batch(self, step: int) -> Slabs:
        """The batch of a step, for every run."""
        drawn = slabs([each.batch(step) for each in self.streams], self.task, self.dtype, self.device)
        if len(self.streams) == 1:
            return drawn
        return Slabs(drawn.log_counts[self.stream_of], drawn.real[self.stream_of])

    def advance(self, step: int, *, logged: bool) -> dict[str, Float[Tensor, " run"]]:
        """One step; if it is logged, the loss before it and ‖Z_{t+1} − Z_t‖_F."""
        gradients = self.evaluate(self.decoder, self.attention, self.batch(step), loss=logged)
        before = [part.clone() for part in self.attention] if logged else []
        self.optimizers[0].step(gradients.decoder)
        self.optimizers[1].step(gradients.attention)
        if not logged:
            return {}
        moves = [(now - old).flatten(1) for now, old in zip(self.attention, before, strict=True)]
        return {"loss": gradients.loss, "attention_speed": torch.cat(moves, 1).norm(dim=1)}

    def loss(self, step: int) -> Float[Tensor, " run"]:
        """The loss on the batch of a step."""
        return self.evaluate(self.decoder, self.attention, self.batch(step)).loss

    def full_attention(self) -> Float[Tensor, "run query token"]:
        """The query rows of Z, over the whole vocabulary."""
        full = self.start_attention[self.stream_of].clone()
        queries = self.task.queries
        for block, part in zip(self.evaluate.blocks, self.attention, strict=True):
            if block.groups == 1:
                full[..., block.tokens] = part
                continue
            sets = full[..., block.tokens].unflatten(-1, (queries, -1))  # a view
            sets.diagonal(dim1=1, dim2=2).copy_(part.view(len(part), queries, -1).mT)
        return full

    def full_decoder(self) -> Float[Tensor, "run token token"]:
        """Y ``[contextual, predicted]``, over the whole vocabulary."""
        size, runs, classes = self.task.vocabulary, len(self.rows), self.task.classes
        if self.start_decoder is None:
            full = torch.zeros(runs, size, size, dtype=self.dtype, device=self.device)
        else:
            full = self.start_decoder[self.stream_of].clone()
        columns = self._columns()
        for block, part in zip(self.evaluate.blocks, self.decoder, strict=True):
            rows = part.flatten(1, 2)
            if self.evaluate.multiplicity > 1:
                never = rows[..., classes:].expand(-1, -1, size - classes)
                rows = torch.cat([rows[..., :classes], never], -1)
            ids = torch.arange(size, device=self.device)[block.tokens]
            full[:, ids[:, None], columns] = rows
        return full

    def take(self, kept: Tensor) -> None:
        """Go on with the runs at these places."""
        self.rows, self.stream_of = self.rows[kept], self.stream_of[kept]
        self.decoder = [part[kept] for part in self.decoder]
        self.attention = [part[kept] for part in self.attention]
        for optimizer, params in zip(self.optimizers, (self.decoder, self.attention), strict=True):
            optimizer.take(params, lambda tensor: tensor[kept], kept)

    def finite(self) -> Tensor:
        """Whether all parameters of a run are finite."""
        parts = [part.isfinite().flatten(1).all(1) for part in (*self.decoder, *self.attention)]
        return torch.stack(parts).all(0)

    def state_dict(self) -> dict[str, Tensor]:
        """Rows, parameters and optimisers as flat tensors."""
        flat = {"rows": self.rows}
        for kind, parts in (("decoder", self.decoder), ("attention", self.attention)):
            flat |= {f"{kind}.{i}": part for i, part in enumerate(parts)}
        optimizers = {f"optimizer.{i}": each.state_dict() for i, each in enumerate(self.optimizers)}
        return ensemble.flat_state(flat, optimizers)

    def load_state_dict(self, flat: Mapping[str, Tensor]) -> None:
        """Put back, into runs that have not begun, what `state_dict` gave."""
        place = {row: i for i, row in enumerate(self.rows.tolist())}
        kept = [place[row] for row in flat["rows"].tolist()]
        self.take(torch.tensor(kept, dtype=torch.int64, device=self.device))
        for kind, parts in (("decoder", self.decoder), ("attention", self.attention)):
            for i, part in enumerate(parts):
                part.copy_(flat[f"{kind}.{i}"])
        for i, optimizer in enumerate(self.optimizers):
            optimizer.load_state_dict(ensemble.part_of(flat, f"optimizer.{i}"))


class CountProgram:
    """An ensemble in training, as `learndyn.core.ensemble.Program` wants it.

    Args:
        strict: raise at the first run that diverges.
    """

    def __init__(self, config: TrainConfig, device: torch.device, *, strict: bool = False) -> None:
        keep_freed_memory()
        self.config, self.device = config, device
        streams: dict[tuple[int, int], Stream] = {}
        room = Room()
        self.parts = [TaskRuns(config, rows, streams, room, device) for rows in together(config, device)]
        self.statuses = ensemble.Statuses(_names(config), strict=strict)
        self.log = ensemble.Logbook(config.runs, config.logged_steps, device)
        self.kept = {step: place for place, step in enumerate(config.kept_steps)}
        queries = max(task.queries for task in config.tasks)
        size = max(task.vocabulary for task in config.tasks)
        shape = (config.runs, len(self.kept))
        dtype = precision(config.dtype)
        self.snapshots = {"attention": torch.full((*shape, queries, size), torch.nan, dtype=dtype)}
        if config.keep_decoder:
            self.snapshots["decoder"] = torch.full((*shape, size, size), torch.nan, dtype=dtype)
        self._watched = 0

    def advance(self, step: int, *, logged: bool) -> None:
        """One step; log and snapshots take the state before it."""
        self._snapshot(step)
        for part in self._active():
            self.log.record(step, part.rows, **part.advance(step, logged=logged))

    def finish(self, step: int) -> None:
        """Log and keep the state at the end."""
        if not self.maintain(step):
            return
        for part in self._active():
            loss = part.loss(step)
            self.log.record(step, part.rows, loss=loss, attention_speed=torch.full_like(loss, torch.nan))
        self._watch(step + 1)
        self._snapshot(step)

    def _active(self) -> list[TaskRuns]:
        return [part for part in self.parts if len(part.rows)]

    def _snapshot(self, step: int) -> None:
        if step not in self.kept:
            return
        for part in self._active():
            values = {"attention": part.full_attention()}
            if self.config.keep_decoder:
                values["decoder"] = part.full_decoder()
            for name, value in values.items():
                room = self.snapshots[name][..., : value.shape[1], : value.shape[2]]
                room[part.rows.cpu(), self.kept[step]] = value.cpu()

    def maintain(self, step: int) -> bool:
        """Drop the runs that diverged; false if no run is left."""
        self._watch(step)
        return bool(self._active())

    def _watch(self, step: int) -> None:
        """Look at the losses logged since the last time, and at the parameters now (the log is sparse)."""
        since, self._watched = self._watched, step
        for part in self._active():
            kept = self.statuses.survivors(
                self.log, "loss", part.rows, part.finite(), since=since, step=step, blank=self._blank
            )
            if len(kept) < len(part.rows):
                part.take(kept.to(self.device))

    def _blank(self, run: int) -> None:
        """What was logged between a divergence and its discovery is no result."""
        since = self.statuses[run].step
        self.log.blank(run, after=since)
        ensemble.blank_snapshots(self.snapshots, self.kept, run, after=since)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that decides the rest of the training and its result, as flat tensors."""
        parts = {"log": self.log.values, "snapshot": self.snapshots, "status": self.statuses.state_dict()}
        parts |= {f"part.{i}": part.state_dict() for i, part in enumerate(self.parts)}
        return ensemble.flat_state({"watched": torch.tensor(self._watched)}, parts)

    def load_state_dict(self, flat: Mapping[str, Tensor]) -> None:
        """Put back, into a program that has not begun, what `state_dict` gave."""
        saved = partial(ensemble.part_of, flat)
        for i, part in enumerate(self.parts):
            part.load_state_dict(saved(f"part.{i}", self.device))
        self.log.values, self.snapshots = saved("log", self.device), saved("snapshot")
        self.statuses.load_state_dict(saved("status"))
        self._watched = int(flat["watched"])


def bytes_per_run(config: TrainConfig, task: int) -> int:
    """What a run needs: parameters, momentum and gradients, logits and α of a batch, log and snapshots."""
    chosen = config.tasks[task]
    columns = chosen.classes + 1 if config.initialisation == "zero" else chosen.vocabulary
    rows = chosen.common + chosen.queries * (chosen.common_per_query + 1) + chosen.classes * chosen.distinct
    tensors = 5 if config.optimizer == "adam" else 4
    padded = config.batch_size + 3 * chosen.classes + 4 * int((config.batch_size * chosen.classes) ** 0.5)
    numbers = rows * columns * tensors + 2 * padded * (columns + 6 * (chosen.support + 1))
    kept = chosen.vocabulary * (chosen.queries + (chosen.vocabulary if config.keep_decoder else 0))
    numbers += len(config.kept_steps) * kept + 2 * len(config.logged_steps)
    return precision(config.dtype).itemsize * numbers


def together(config: TrainConfig, device: torch.device) -> list[list[int]]:
    """Which runs step as one batch: those of one task, equal seeds as neighbours; on a CPU in small parts."""
    parts = []
    for task in sorted(set(config.task)):
        rows = [run for run in range(config.runs) if config.task[run] == task]
        rows.sort(key=lambda run: config.seed[run])
        size = len(rows) if device.type == "cuda" else max(1, CACHE_BYTES // bytes_per_run(config, task))
        parts += [rows[i : i + size] for i in range(0, len(rows), size)]
    return parts


def _optimizer(config: TrainConfig, params: list[Tensor], rate: Sequence[float]) -> optim.BatchedOptimizer:
    if config.optimizer == "adam":
        return optim.BatchedAdam(params, lr=rate)
    return optim.BatchedSGD(params, lr=rate, momentum=config.momentum)


def _names(config: TrainConfig) -> list[str]:
    columns = zip(config.task, config.seed, config.attention_rate, config.rate_ratio, strict=True)
    return [
        f"task {task}, seed {seed}, attention_rate {rate:g}, rate_ratio {ratio:g}"
        for task, seed, rate, ratio in columns
    ]
