"""Section cuda: the published sweeps on one GPU."""

from __future__ import annotations

import torch
from cogo_sections.common import advance, closed_gradient, program, step_work, table_gradient
from timing import Options, clock, heading, interleave, note

from learndyn.cogo_li2 import initial
from learndyn.cogo_li2.program import GridProgram
from learndyn.cogo_li2.settings import TrainConfig, grid
from learndyn.core.device import tf32

EPOCHS = 10_000
SWEEPS = {
    "45 runs, q = 512": ((512,), (1e-5, 5e-5, 1e-4)),
    "300 runs, q = 256 … 2048": ((256, 512, 1024, 2048), (1e-5, 5e-5, 1e-4, 2e-4, 5e-4)),
}


def cuda(options: Options, device: str = "cuda") -> None:
    """Time of both sweeps, extrapolated from some hundred epochs, and the share of the peak rate."""
    if device == "cuda" and not torch.cuda.is_available():
        print("\n== cuda: skipped, since torch sees no GPU here; the other sections ran on the CPU")
        return
    heading("cuda", "the published sweeps in float32 (TF32 off), runs of one shape together", device)
    with tf32(False):
        peak = interleave({}, options, device=device, rounds=3).peak_rate
        note(f"floor: {peak / 1e12:.3g} TFLOP/s of the largest product")
        for name, (widths, decays) in SWEEPS.items():
            _sweep(name, widths, decays, peak, options, device)


def _sweep(
    name: str, widths: tuple[int, ...], decays: tuple[float, ...], peak: float, options: Options, device: str
) -> None:
    sizes, seeds, epochs = ((7, 11), [1], 4) if options.quick else ((23, 71, 127), [1, 2, 3, 4, 5], 300)
    total = total_floor = 0.0
    for d in sizes:
        for q in (16, 32) if options.quick else widths:
            base = TrainConfig(orders=(d,), hidden_size=q, log_dense=0, log_every=100)
            trainer = program(grid(base, seeds=seeds, weight_decays=decays), device)
            advance(trainer, 0, 3)
            carried = trainer.weights.shape[-1]
            work = _operations(trainer, carried)
            wait = torch.cuda.synchronize if device == "cuda" else None
            seconds = clock(lambda trainer=trainer: advance(trainer, 3, 3 + epochs), 1, wait) / epochs
            note(
                f"  d = {d:>3}, q = {q:>4}, {trainer.config.runs} runs: {1e3 * seconds:.3g} ms per epoch, "
                f"{seconds * peak / work:.3g} × floor of {work:.3g} operations, "
                f"{work / seconds / peak:.1%} of the peak; {trainer.weights.shape[-1]} nodes at the end"
            )
            total += seconds * EPOCHS
            total_floor += work / peak * EPOCHS
    note(
        f"{name}: {total:.0f} s for {EPOCHS} epochs, extrapolated from {epochs}, so without what compaction "
        f"gains later; ratio to the floor {total / total_floor:.3g}"
    )


def _operations(trainer: GridProgram, nodes: int) -> float:
    """Operations of one epoch of all runs in the form that the trainer uses."""
    config, d = trainer.config, trainer.config.size
    gradient = table_gradient(d, nodes)
    if getattr(trainer.grid, "pays", lambda _: False)(nodes):
        gradient = closed_gradient(d, nodes, initial.held_out_count(d, config.test_size or 0.0))
    return config.runs * step_work(gradient, d, nodes).operations
