"""Section cuda: the whole grid, the language model and 10,000 trajectories on one GPU."""

from __future__ import annotations

import numpy as np
import torch
from scan_snap_sections.finite_length import configuration, total_work
from scan_snap_sections.flows import many
from scan_snap_sections.language import RATES, compare, text_data
from timing import Options, clock, heading, interleave, note

from learndyn.core.device import tf32
from learndyn.core.text_settings import TextConfig
from learndyn.scan_snap.symmetric_batch import solve_many
from learndyn.scan_snap.training import train


def cuda(options: Options, device: str = "cuda") -> None:
    """Figure 6 and the others, with the share of the peak rate."""
    if device == "cuda" and not torch.cuda.is_available():
        print("\n== cuda: skipped, since torch sees no GPU here; the other sections ran on the CPU")
        return
    heading("cuda", "the sections grid, text and symmetric in float32 (TF32 off), float64 for flows", device)
    with tf32(False):
        peak = interleave({}, options, device=device, rounds=3).peak_rate
        note(f"floor: {peak / 1e12:.3g} TFLOP/s of the largest product")
        _grid(options, device, peak)
        data, width = (text_data(100), 16) if options.quick else (text_data(None), 200)
        note(f"language model, vocabulary {len(data.vocabulary)}, width {width}:")
        config = TextConfig(width=width, hidden_size=width, learning_rate=RATES)
        compare(config, data, device, options)
    parameters, times = many(16 if options.quick else 10_000), np.array([100.0, 1000.0, 10_000.0])
    solve_many(parameters, times, device=device)
    seconds = clock(lambda: solve_many(parameters, times, device=device))
    note(f"{parameters.runs} trajectories of the symmetric flow to t = {times[-1]:g}: {seconds:.3g} s")


def _grid(options: Options, device: str, peak: float) -> None:
    config = configuration(options)
    work = total_work(config).operations
    for rng in ("vectorised", "published"):
        chosen = config.replace(rng=rng)
        train(chosen.replace(steps=2), device=device)
        seconds = clock(lambda chosen=chosen: train(chosen, device=device))
        note(
            f"Figure 6, {config.runs} runs × {config.steps} steps, {rng} random numbers: {seconds:.3g} s, "
            f"{seconds * peak / work:.3g} × floor of {work:.3g} operations, without the drawing"
        )
    if device == "cuda":
        note(f"  most memory in use at once: {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")
