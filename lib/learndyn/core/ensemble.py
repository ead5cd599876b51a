"""Training many runs as one program: the loop, its log, what became of each run, chunks that fit memory.

Nothing here knows a model. A trainer hands `drive` an object with five small methods (`Program`); its
tensors carry a leading ``run`` axis, of which rows may disappear while training goes on (runs that
diverged).
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
import xarray as xr
from IPython import get_ipython
from IPython.display import display
from jaxtyping import Bool, Int, Shaped
from torch import Tensor
from tqdm import tqdm

from learndyn.core import checkpoint as checkpoints
from learndyn.core.errors import PlainError


class EnsembleError(PlainError):
    """An ensemble that cannot be trained, or, in strict mode, one of whose runs failed."""


class RunCode(IntEnum):
    """What became of a run."""

    OK = 0
    DIVERGED = 1


@dataclass(frozen=True)
class RunStatus:
    """What became of one run: a code, the step at which it was seen (−1 if nothing happened), a sentence."""

    code: RunCode = RunCode.OK
    step: int = -1
    sentence: str = "trained to the end"


@dataclass
class Statuses:
    """The status of each run of an ensemble.

    Args:
        names: how each run is called in a sentence, e.g. ``"seed 3, weight_decay 1e-4"``.
        limit: A watched quantity above this value (or not finite) means that the run has diverged.
        strict: raise `EnsembleError` at the first run that diverges instead of going on without it.
    """

    names: Sequence[str]
    limit: float = 1e6
    strict: bool = False
    _seen: dict[int, tuple[int, float]] = field(default_factory=dict)

    def watch(
        self, rows: Int[Tensor, " active"], steps: Sequence[int], values: Shaped[Tensor, "active step"]
    ) -> Int[Tensor, " kept"]:
        """Mark the runs whose values blew up; return the indices (into ``rows``) of those that go on.

        Args:
            rows: the ensemble's index of each row of ``values``.
            steps: the step of each column.
        """
        values = values.detach().to("cpu", torch.float64)
        bad = ~(values <= self.limit)  # NaN compares false
        for row in bad.any(1).nonzero()[:, 0].tolist():
            column = int(bad[row].int().argmax())
            run = int(rows[row])
            self._seen[run] = (steps[column], float(values[row, column]))
            if self.strict:
                raise EnsembleError(f"{self.names[run]}: {self[run].sentence}")
        return (~bad.any(1)).nonzero()[:, 0]

    def survivors(
        self,
        log: Logbook,
        loss: str,
        rows: Int[Tensor, " active"],
        finite: Bool[Tensor, " active"],
        *,
        since: int,
        step: int,
        blank: Callable[[int], None],
    ) -> Int[Tensor, " kept"]:
        """`watch` the losses logged at since ≤ steps < step, and the parameters at ``step``.

        Args:
            loss: its name in the log.
            finite: whether the parameters of each row are finite now; the log may be sparse.
            blank: called with each run that has diverged: what was logged since then is no result.
        """
        columns = log.between(since, step)
        steps = [*log.steps[columns], step]
        losses = torch.zeros(len(rows), 1, device=finite.device).masked_fill_(~finite[:, None], torch.nan)
        if columns.stop > columns.start:
            losses = torch.cat([log.values[loss][rows, columns], losses], 1)
        kept = self.watch(rows.cpu(), steps, losses)
        for row in set(range(len(rows))) - set(kept.tolist()):
            blank(int(rows[row]))
        return kept

    def variables(self) -> dict[str, tuple[str, np.ndarray]]:
        """Over run: status_code, status_step, status_sentence, for a dataset."""
        statuses = list(self)
        return {
            "status_code": ("run", np.array([int(status.code) for status in statuses])),
            "status_step": ("run", np.array([status.step for status in statuses])),
            "status_sentence": ("run", np.array([status.sentence for status in statuses])),
        }

    def __getitem__(self, run: int) -> RunStatus:
        if run not in self._seen:
            return RunStatus()
        step, value = self._seen[run]
        return RunStatus(
            RunCode.DIVERGED, step, f"diverged: the training loss was {value:.3g} at step {step}"
        )

    def __iter__(self) -> Iterator[RunStatus]:
        return (self[run] for run in range(len(self.names)))

    def state_dict(self) -> dict[str, Tensor]:
        """Flat tensors for a checkpoint."""
        runs = sorted(self._seen)
        return {
            "run": torch.tensor(runs, dtype=torch.int64),
            "step": torch.tensor([self._seen[r][0] for r in runs], dtype=torch.int64),
            "value": torch.tensor([self._seen[r][1] for r in runs], dtype=torch.float64),
        }

    def load_state_dict(self, flat: Mapping[str, Tensor]) -> None:
        """Put back what `state_dict` gave."""
        columns = zip(flat["run"].tolist(), flat["step"].tolist(), flat["value"].tolist(), strict=True)
        self._seen = {run: (step, value) for run, step, value in columns}


class Logbook:
    """Quantities of an ensemble at logged steps, on the device: ``[run, logged step, ...]``, else NaN."""

    def __init__(self, runs: int, steps: Sequence[int], device: torch.device | str = "cpu") -> None:
        self.steps = tuple(steps)
        self.values: dict[str, Tensor] = {}
        self._column = {step: i for i, step in enumerate(self.steps)}
        self._runs, self._device = runs, device

    def record(self, step: int, rows: Int[Tensor, " active"], **values: Shaped[Tensor, "active ..."]) -> None:
        """Store values of the runs ``rows`` at a logged step."""
        for name, value in values.items():
            if name not in self.values:
                shape = (self._runs, len(self.steps), *value.shape[1:])
                dtype = value.dtype if value.is_floating_point() or value.is_complex() else torch.float32
                self.values[name] = torch.full(shape, torch.nan, dtype=dtype, device=self._device)
            target = self.values[name]
            target[rows, self._column[step]] = value.to(target.dtype)

    def between(self, first: int, last: int) -> slice:
        """The columns of the logged steps in first ≤ step < last."""
        inside = [i for i, step in enumerate(self.steps) if first <= step < last]
        return slice(inside[0], inside[-1] + 1) if inside else slice(0, 0)

    def blank(self, run: int, *, after: int) -> None:
        """Forget a run's values of later steps: between a divergence and its discovery there is no result."""
        later = self.between(after + 1, max(self.steps, default=0) + 1)
        for values in self.values.values():
            values[run, later] = torch.nan


@runtime_checkable
class Program(Protocol):
    """What `drive` needs of a trainer."""

    def advance(self, step: int, *, logged: bool) -> None:
        """One training step, in place; first write to the log if asked for. No copy to the host in here."""

    def maintain(self, step: int) -> bool:
        """Housekeeping between steps (divergence, compaction); false if no run is left to train."""

    def finish(self, step: int) -> None:
        """Log the final state."""

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that decides the rest of the trajectory and the result, as flat tensors."""

    def load_state_dict(self, flat: Mapping[str, Tensor]) -> None:
        """Put back what `state_dict` gave."""


def blank_snapshots(
    snapshots: Mapping[str, Shaped[Tensor, "run snapshot ..."]],
    places: Mapping[int, int],
    run: int,
    *,
    after: int,
) -> None:
    """Blank what was kept of a run later than ``after``: NaN, or 0 where there is none.

    Args:
        places: the place on the snapshot axis of each step.
    """
    for step, place in places.items():
        if step > after:
            for values in snapshots.values():
                values[run, place] = torch.nan if values.is_floating_point() else 0


def flat_state(own: Mapping[str, Tensor], parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """A program's tensors, and those of its parts under the name ``<part>.<name>``."""
    return {**own, **{f"{part}.{n}": t for part, tensors in parts.items() for n, t in tensors.items()}}


def part_of(
    flat: Mapping[str, Tensor], part: str, device: torch.device | str | None = None
) -> dict[str, Tensor]:
    """The tensors of a part of `flat_state`, by their own names; on a device if one is given."""
    prefix = f"{part}."
    return {n.removeprefix(prefix): t.to(device=device) for n, t in flat.items() if n.startswith(prefix)}


def drive(
    program: Program,
    *,
    steps: int,
    logged: Collection[int],
    maintain_every: int = 100,
    checkpoint: Path | None = None,
    checkpoint_every: int = 1000,
    identity: str = "",
    bar: tqdm | None = None,
) -> None:
    """Train for ``steps`` steps, or go on from ``checkpoint`` if that file is there.

    Maintenance and checkpoints come before the step that they are named after. A finished training leaves a
    checkpoint of its end, so that doing it again only reads that file.

    Raises:
        CheckpointError: if the file is damaged or of another training than ``identity``.
    """
    start = 0
    if checkpoint is not None and checkpoint.exists():
        state, start = checkpoints.load(checkpoint, identity=identity)
        program.load_state_dict(state)
        if bar is not None:
            bar.update(start)
        if start > steps:  # written after `finish`
            return
    logged = frozenset(logged)
    for step in range(start, steps):
        if step > start and step % maintain_every == 0 and not program.maintain(step):
            if bar is not None:
                bar.update(steps - step)
            break
        if checkpoint is not None and step > start and step % checkpoint_every == 0:
            checkpoints.save(checkpoint, program.state_dict(), identity=identity, step=step)
        program.advance(step, logged=step in logged)
        if bar is not None:
            bar.update()
    program.finish(steps)
    if checkpoint is not None:
        checkpoints.save(checkpoint, program.state_dict(), identity=identity, step=steps + 1)


def chunks(runs: int, bytes_per_run: int, max_memory: int | None) -> list[range]:
    """Split runs 0 … runs−1 into equal consecutive parts that fit ``max_memory`` bytes each.

    Raises:
        EnsembleError: if not even one run fits.
    """
    if max_memory is None:
        return [range(runs)]
    fit = max_memory // bytes_per_run
    if fit < 1:
        raise EnsembleError(
            f"one run needs about {bytes_per_run / 2**20:.1f} MiB, more than max_memory = "
            f"{max_memory / 2**20:.1f} MiB"
        )
    count = -(-runs // fit)
    bounds = [round(i * runs / count) for i in range(count + 1)]
    return [range(a, b) for a, b in itertools.pairwise(bounds)]


def chunk_path(path: Path | str | None, chunk: range, runs: int) -> Path | None:
    """The checkpoint file of one chunk: ``path`` itself if the ensemble is whole."""
    if path is None:
        return None
    path = Path(path)
    if len(chunk) == runs:
        return path
    return path.with_name(f"{path.stem}.runs{chunk.start}-{chunk.stop - 1}{path.suffix}")


def join(parts: Sequence[xr.Dataset]) -> xr.Dataset:
    """The datasets of the chunks of an ensemble as one, along ``run``."""
    if len(parts) == 1:
        return parts[0]
    return xr.concat(parts, "run", data_vars="minimal", coords="minimal", compat="override", join="override")


@contextmanager
def progress_bar(total: int, *, show: bool, unit: str = "step") -> Iterator[tqdm]:
    """A bar with rate and time left that is gone when it is done; with ``show=False`` it never was there."""
    shell = get_ipython() if show else None
    kind = tqdm if getattr(shell, "kernel", None) is None else _CellBar
    with kind(total=total, disable=not show, leave=False, unit=unit, unit_scale=True) as bar:
        yield bar


class _CellBar(tqdm):
    """A bar in a notebook cell: one line of text that is rewritten in place, and emptied in the end.

    tqdm's own notebook bar leaves a widget without a kernel in an executed notebook, and its terminal bar a
    heap of text on stderr.
    """

    def __init__(self, **options: Any) -> None:
        self._line = display({"text/plain": ""}, raw=True, display_id=True)
        super().__init__(**options, file=io.StringIO(), mininterval=0.3)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Rewrite the line."""
        self._line.update({"text/plain": str(self) if msg is None else msg}, raw=True)
        return True

    def close(self) -> None:
        """Empty the line."""
        super().close()
        self._line.update({"text/plain": ""}, raw=True)
