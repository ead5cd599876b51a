"""Section tangent: the empirical tangent kernel in blocks, against one backward pass for each number."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import torch
from cogo_sections.analysis import peak_memory
from timing import Options, Work, heading, interleave, note, table, verdict
from torch import Tensor, nn

from learndyn.core.backbones import MLPConfig, SmallResNetConfig, freeze_batch_norm
from learndyn.core.device import generator
from learndyn.core.tangent_kernel import tangent_kernel
from learndyn.ssl_dynamics.stepwise import presets


def loop_kernel(network: nn.Module, inputs: Tensor) -> Tensor:
    """(1/d) Σ_o J_o J_oᵀ from the whole Jacobian, made by a backward pass per sample and output."""
    parameters = list(network.parameters())
    rows = []
    for sample in inputs:
        outputs = network(sample[None])[0][0]
        for output in outputs:
            gradients = torch.autograd.grad(output, parameters, retain_graph=True)
            rows.append(torch.cat([gradient.flatten() for gradient in gradients]))
    jacobian = torch.stack(rows).double().unflatten(0, (len(inputs), -1)).flatten(1)
    return jacobian @ jacobian.T / len(outputs)


def tangent(options: Options) -> None:
    """The chapter's MLP and small ResNet on some of their own views."""
    samples = 6 if options.quick else 64
    heading(
        "tangent", f"tangent kernel on {samples} samples, averaged over 8 outputs; float32, summed in float64"
    )
    digits, _ = presets.mlp_pairs((0,), samples).batch(0)
    crops, others = presets.resnet_pairs((0,), samples).batch(0)
    small = SmallResNetConfig(width=2 if options.quick else 8).build(generator(0, "weights"))
    freeze_batch_norm(small, crops, others)
    cases = {
        "MLP": (MLPConfig(hidden=(16 if options.quick else 256,)).build(generator(0, "weights")), digits),
        "small ResNet": (small, crops),
    }
    for name, (network, views) in cases.items():
        _compare(name, network, views, options)
    _bounded(options)


def _compare(name: str, network: nn.Module, views: Tensor, options: Options) -> None:
    parameters = sum(p.numel() for p in network.parameters())
    calls = {
        f"{name}, blocks": lambda: tangent_kernel(network, views),
        f"{name}, one by one": lambda: loop_kernel(network, views),
    }
    # The product of the Jacobian with itself, over all outputs; what the gradients need is not counted.
    width = 8 * parameters
    work = Work(2.0 * len(views) ** 2 * width, 8.0 * len(views) * width)
    timings = interleave(calls, options, rounds=2 if options.quick else 3)
    table(timings, dict.fromkeys(calls, work))
    ours, theirs = tangent_kernel(network, views), loop_kernel(network, views)
    gap = float((ours - theirs).abs().max() / theirs.abs().max())
    note(f"{name}: {parameters} parameters; relative difference of the two kernels {gap:.1e}")
    verdict(f"{name}, one by one / blocks", timings.ratio(f"{name}, one by one", f"{name}, blocks"))


def _bounded(options: Options) -> None:
    """Peak memory with a bound far below the Jacobian, in a process of its own."""
    hidden, samples, block = (32, 20, 2**18) if options.quick else (512, 200, 2**26)
    script = Path(__file__).parents[1] / "stepwise.py"
    command = [sys.executable, str(script), "--threads", str(options.threads)]
    command += ["--child", *map(str, (hidden, samples, block))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after, parameters = (float(word) for word in done.stdout.split()[-3:])
    jacobian = 8 * samples * parameters
    added = max(after - before, 1.0)
    note(
        f"MLP of {parameters:.3g} parameters, {samples} samples, block_bytes = {block / 2**20:.3g} MiB: "
        f"the kernel adds {added / 2**20:.3g} MiB to the process;"
    )
    note(f"  the Jacobian of one output has {jacobian / 2**20:.4g} MiB, ratio {jacobian / added:.3g}")


def child(hidden: str, samples: str, block: str) -> None:
    """Prints the peak memory before and after, and the number of parameters."""
    network = MLPConfig(inputs=1200, hidden=(int(hidden),), dimensions=10).build(generator(0, "weights"))
    views = torch.randn(int(samples), 1200, generator=generator(0, "views"))
    # The first call of anything loads code: a tiny kernel before the peak is read.
    tangent_kernel(network, views[:2], outputs=[0], block_bytes=2**16)
    before = peak_memory()
    tangent_kernel(network, views, outputs=[0], block_bytes=int(block))
    print(before, peak_memory(), sum(p.numel() for p in network.parameters()))
