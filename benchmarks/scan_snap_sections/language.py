"""Section text: tokens per second of the Transformer language model, alone and as an ensemble of rates."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import torch
from timing import PEAK, PEAK_SIZE, Options, Spread, Timings, Work, heading, interleave, note, verdict
from torch import Tensor
from usual_text_trainer import TextModel, UsualTextTrainer

from learndyn.core.corpora import corpus
from learndyn.core.products import product
from learndyn.core.text import LanguageData, TokenStream, language_data
from learndyn.core.text_program import TextProgram
from learndyn.core.text_settings import TextConfig

RATES = (1.0, 2.0, 3.0, 4.0, 5.0)
#: Vocabulary (None: all words of the embedded text) and width.
SIZES: tuple[tuple[int | None, int], ...] = ((2000, 128), (None, 200))
OURS = "largest product, ours"
IN_TORCH = {
    "attention_in.weight": "self_attn.in_proj_weight",
    "attention_in.bias": "self_attn.in_proj_bias",
    "attention_out.weight": "self_attn.out_proj.weight",
    "attention_out.bias": "self_attn.out_proj.bias",
    "attention_norm.weight": "norm1.weight",
    "attention_norm.bias": "norm1.bias",
    "hidden_in.weight": "linear1.weight",
    "hidden_in.bias": "linear1.bias",
    "hidden_out.weight": "linear2.weight",
    "hidden_out.bias": "linear2.bias",
    "hidden_norm.weight": "norm2.weight",
    "hidden_norm.bias": "norm2.bias",
}
"""Names of a layer's parameters in torch."""


def text_data(vocabulary: int | None) -> LanguageData:
    """The embedded English text in 20 columns, with a vocabulary of so many entries."""
    return language_data(corpus("topics"), None if vocabulary is None else vocabulary - 1)


def usual(program: TextProgram, run: int = 0) -> UsualTextTrainer:
    """The usual trainer of one run, from the same weights."""
    config, sizes = program.config, program.architecture
    if sizes.hidden_size != sizes.width or config.clip_norm is None:
        raise ValueError("the usual trainer has layers of one width, and clips")
    with torch.random.fork_rng(devices=[]):
        model = TextModel(
            sizes.vocabulary,
            sizes.width,
            sizes.layers,
            config.window_length,
            sizes.heads,
            config.dropout[run],
        )
    model.to(program.device, program.dtype)
    model.load_state_dict(_in_torch(program.parameters, run) | dict(model.named_buffers()))
    return UsualTextTrainer(
        model,
        learning_rate=config.learning_rate[run],
        feed_forward_factor=config.hidden_rate_factor[run],
        clip=config.clip_norm,
    )


def _in_torch(parameters: Mapping[str, Tensor], run: int) -> dict[str, Tensor]:
    """One run's parameters by torch's names. Matrices are [input, output] here, [output, input] there."""
    state = {"embedding.weight": parameters["embedding"][run].detach()}
    for name in parameters.keys() - {"embedding"}:
        layer, _, own = name.partition(".")
        theirs = f"encoder.layers.{layer}.{IN_TORCH[own]}" if layer.isdigit() else name
        value = parameters[name][run].detach()
        state[theirs] = value.T if value.ndim == 2 else value
    return state


def step_work(config: TextConfig, vocabulary: int, tokens: int) -> Work:
    """A step of one run.

    Each product forward and twice backward; of attention the keys that a query sees, (T + 1)/2 on average.
    Then the norm, the clipping and the update, 5 for each parameter with a gradient, the embedding having
    ``tokens`` rows at most. Those parameters in and out.
    """
    d, hidden, keys = config.width, config.hidden_size, (config.window_length + 1) / 2
    layer = 4 * d * d + 2 * d * hidden
    products = 2.0 * (vocabulary * d + config.layers * (layer + 2 * keys * d))
    moved = d * (vocabulary + min(vocabulary, tokens)) + config.layers * layer
    return Work(3 * tokens * products + 5 * moved, 4 * 2.0 * moved)


def text(options: Options) -> None:
    """Our trainer and the usual one, one run and several."""
    heading("text", "a Transformer language model, 1 layer, batches of 20 × 35 tokens, dropout 0.3, float32")
    note("floor: the faster one of the largest products by torch and by the routine that ours uses")
    sizes = ((100, 16),) if options.quick else SIZES
    for vocabulary, width in sizes:
        data = text_data(vocabulary)
        config = TextConfig(width=width, hidden_size=width, learning_rate=RATES)
        note(f"vocabulary {len(data.vocabulary)}, width {width}:")
        compare(config, data, "cpu", options)


def compare(config: TextConfig, data: LanguageData, device: str, options: Options) -> None:
    """Tokens per second of one run and of the ensemble, ours and the usual way."""
    target = torch.device(device)
    one = config.select([config.runs - 1])
    window = data.train.columns * config.window_length
    usual_trainers = [usual(TextProgram(config.select([run]), data, target)) for run in range(config.runs)]
    calls = {
        "one run": stepper(one, data, target),
        "one run, usual": usual_stepper(usual_trainers[-1:], config, data, target),
        f"{config.runs} rates": stepper(config, data, target),
        f"{config.runs} rates, usual": usual_stepper(usual_trainers, config, data, target),
    }
    square = torch.rand(1, *[256 if options.quick else PEAK_SIZE[target.type]] * 2, device=target)
    timings = interleave(
        {**calls, OURS: lambda: product(square, square)},
        options,
        device=device,
        rounds=2 if options.quick else 5,
    )
    for name in calls:
        runs = config.runs if name.startswith(str(config.runs)) else 1
        _print(timings, name, runs, runs * window, step_work(config, len(data.vocabulary), window))
    verdict("  usual / ours, one run", timings.ratio("one run, usual", "one run"))
    many = f"{config.runs} rates"
    verdict(f"  usual one by one / ours as one program, {many}", timings.ratio(f"{many}, usual", many))
    gap = difference(one.replace(dropout=0.0), data, target)
    note(f"  without dropout, losses of both differ by {gap:.1e} relatively after 5 steps")


def _print(timings: Timings, name: str, runs: int, tokens: int, work: Work) -> None:
    rate = Spread.of(tokens / timings.seconds[name])
    fastest = timings.peak_operations / np.minimum(timings.seconds[PEAK], timings.seconds[OURS])
    multiple = float(np.median(timings.seconds[name] * fastest)) / (runs * work.operations)
    note(
        f"  {name:<16} {rate} tokens/s, {Spread.of(1e3 * timings.seconds[name])} ms a step, "
        f"{multiple:.3g} × floor of {Work(runs * work.operations, runs * work.bytes)}"
    )


def stepper(config: TextConfig, data: LanguageData, device: torch.device) -> Callable[[], None]:
    """A call that takes the next step of all runs, without the log."""
    # The window at the end of the text is a shorter one, and would be faster.
    data = whole_windows(data, config.window_length)
    program, steps = TextProgram(config, data, device), itertools.count()
    return lambda: program.advance(next(steps), logged=False)


def whole_windows(data: LanguageData, length: int) -> LanguageData:
    """The training text without what is left at its end."""
    end = length * data.train.windows(length, drop_short=True) + 1
    return replace(data, train=TokenStream(data.train.ids[:, :end]))


def usual_stepper(
    trainers: list[UsualTextTrainer], config: TextConfig, data: LanguageData, device: torch.device
) -> Callable[[], None]:
    """The same of usual trainers, one after another."""
    stream, length = data.train.to(device), config.window_length
    steps, epoch = itertools.count(), stream.windows(length, drop_short=True)

    def call() -> None:
        batch = stream.window(next(steps) % epoch, length)
        for trainer in trainers:
            trainer.step(*batch)

    return call


def difference(config: TextConfig, data: LanguageData, device: torch.device, steps: int = 5) -> float:
    """How far the losses of the usual trainer are from ours after some steps, relatively."""
    program = TextProgram(config.replace(steps=steps, log_every=1), data, device)
    trainer = usual(program)
    for step in range(steps + 1):
        program.advance(step, logged=True)
        theirs = trainer.step(*program.data.train.window(step, config.window_length))
    ours = program.log.values["train_loss"][0, -1]
    return float(((ours - theirs) / theirs).abs())
