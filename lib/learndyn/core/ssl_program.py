"""The state of an ensemble of SSL trainings between two steps: networks, optimiser, log, remaining runs.

`learndyn.core.ssl_training.train` has it driven by `learndyn.core.ensemble.drive`. In here runs of equal loss
are neighbours, and among these runs of equal pairs; ``rows`` says where each belongs in the ensemble.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from functools import partial

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from learndyn.core import ensemble, optim, spectra, ssl_networks
from learndyn.core.backbones import MLPConfig, Network, scale_parameters_
from learndyn.core.device import generator, keep_freed_memory, precision
from learndyn.core.pairs import FixedPairs, PairSource
from learndyn.core.ssl_losses import SSLLoss
from learndyn.core.ssl_networks import Embedded
from learndyn.core.ssl_settings import SSLConfig

METRICS = ("loss", "correlation_eigenvalues", "covariance_eigenvalues")


def initial_network(config: SSLConfig, run: int, *, head_bias: bool | None = None) -> Network:
    """The network of one run at step 0: drawn from its seed, scaled, with its head bias if it has one.

    Args:
        head_bias: whether to add a head bias also where its standard deviation is 0 (it is 0 then); by
            default only where it is not.
    """
    network = config.network.build(generator(config.seed[run], "network"))
    scale_parameters_(network, body=config.body_scale[run], head=config.head_scale[run])
    spread = config.head_bias[run]
    if head_bias or (head_bias is None and spread):
        draw = torch.randn(network.last.out_features, generator=generator(config.seed[run], "head_bias"))
        network.last.bias = nn.Parameter(spread * draw)
    return network.to(precision(config.dtype))


class SSLProgram:
    """An ensemble in training, as `learndyn.core.ensemble.Program` wants it.

    Args:
        head_bias: whether the networks carry a head bias (which stays 0 for runs without one).
        strict: raise at the first run that diverges.
    """

    def __init__(
        self, config: SSLConfig, pairs: PairSource, device: torch.device, *, head_bias: bool, strict: bool
    ) -> None:
        keep_freed_memory()
        self.config, self.device, self.dtype = config, device, precision(config.dtype)
        kinds = list(dict.fromkeys(config.loss))
        same = _first_with_equal_pairs(pairs, config.runs)
        self.order = sorted(range(config.runs), key=lambda run: (kinds.index(config.loss[run]), same[run]))
        self.rows = torch.tensor(self.order, device=device)
        self.source = _chosen(pairs.to(device), self.order)
        self.own = pairs.runs is not None
        self.networks = self._networks(head_bias)
        sorted_config = config.select(self.order)
        self.optimizer = optim.by_name(
            config.optimizer,
            list(self.networks.parameters.values()),
            lr=sorted_config.learning_rate,
            weight_decay=sorted_config.weight_decay,
            momentum=sorted_config.momentum,
        )
        self.rate = self.optimizer.hyper["lr"].clone()
        biased = torch.tensor([spread > 0 for spread in sorted_config.head_bias], device=device)
        self.biased = biased[:, None] if head_bias and not bool(biased.all()) else None
        self.last_bias = _name_of_last_bias(self.networks.module())
        self._group()
        self.statuses = ensemble.Statuses(_names(config), strict=strict)
        self.log = ensemble.Logbook(config.runs, config.logged_steps, device)
        self.kept = {step: place for place, step in enumerate(config.kept_steps)}
        self.snapshots = self._no_snapshots()
        self._watched = 0

    def _networks(self, head_bias: bool) -> ssl_networks.Networks:
        config = self.config
        layout = torch.channels_last if config.channels_last else torch.preserve_format
        networks = [
            initial_network(config, run, head_bias=head_bias).to(self.device, memory_format=layout)
            for run in self.order
        ]
        mlp = isinstance(config.network, MLPConfig) and config.autocast == "none"
        return ssl_networks.together(networks, vectorises=config.network.vectorises, mlp=mlp)

    def _group(self) -> None:
        """Where the runs of each loss begin and end."""
        losses = [self.config.loss[run] for run in self.rows.tolist()]
        sizes = [(loss, len(list(runs))) for loss, runs in itertools.groupby(losses)]
        ends = list(itertools.accumulate(size for _, size in sizes))
        self.groups: list[tuple[SSLLoss, slice]] = [
            (loss, slice(end - size, end)) for (loss, size), end in zip(sizes, ends, strict=True)
        ]

    def advance(self, step: int, *, logged: bool) -> None:
        """One step; log and snapshots take the state before it."""
        self._keep_networks(step)
        views = self.source.batch(step)
        embedded = self._embed(views)
        losses = self._losses(embedded)
        gradients = self.networks.gradients(losses.sum())
        if logged or step in self.kept:
            self._observe(step, views, embedded, losses)
        if self.biased is not None:
            gradients[list(self.networks.parameters).index(self.last_bias)].mul_(self.biased)
        if self.config.schedule != "constant" or self.config.warmup_steps:
            self.optimizer.hyper["lr"] = self.rate * self.config.rate_factor(step)
        self.optimizer.step(gradients)

    def finish(self, step: int) -> None:
        """Log and keep the state at the end."""
        if not len(self.rows) or not self.maintain(step):
            return
        self._keep_networks(step)
        with torch.no_grad():
            views = self.source.batch(step)
            embedded = self._embed(views, frozen=True)
            self._observe(step, views, embedded, self._losses(embedded))
        self._watch(step + 1)

    def _embed(self, views: tuple[Tensor, Tensor], *, frozen: bool = False) -> Embedded:
        """Embeddings of both views, in bfloat16 where the config asks for it."""
        images = self.config.channels_last and views[0].ndim == 4
        layout = torch.channels_last if images else torch.preserve_format
        view_a, view_b = (view.to(self.dtype, memory_format=layout) for view in views)
        autocast = self.config.autocast == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=autocast):
            return self.networks.embed(view_a, view_b, own=self.own, frozen=frozen)

    def _losses(self, embedded: Embedded) -> Float[Tensor, " run"]:
        """The loss of each run, one call for all runs of a kind."""
        a, b = embedded.a.to(self.dtype), embedded.b.to(self.dtype)
        if len(self.groups) == 1:
            return self.groups[0][0](a, b)
        return torch.cat([loss(a[runs], b[runs]) for loss, runs in self.groups])

    @torch.no_grad()
    def _observe(
        self,
        step: int,
        views: tuple[Tensor, Tensor],
        embedded: Embedded,
        losses: Float[Tensor, " run"],
    ) -> None:
        """Write the log and the snapshot of a step, on the evaluation pairs (often the training batch)."""
        pairs = self.source.evaluation()
        if any(ours is not theirs for ours, theirs in zip(views, pairs, strict=True)):
            embedded = self._embed(pairs, frozen=True)
        a, b = embedded.a, embedded.b
        if step in self.log.steps:
            correlation = [
                spectra.cross_correlation(a[runs], b[runs], centred=loss.centred)
                for loss, runs in self.groups
            ]
            values = {
                "loss": losses.detach(),
                "correlation_eigenvalues": spectra.sorted_eigenvalues(torch.cat(correlation)),
                "covariance_eigenvalues": spectra.sorted_eigenvalues(spectra.embedding_covariance(a, b)),
            }
            if self.config.representation_modes:
                values["representation_eigenvalues"] = representation_spectrum(
                    embedded.representation_a, embedded.representation_b, self.config.representation_modes
                )
            self.log.record(step, self.rows, **values)
        if step in self.kept:
            self._keep(step, {"embedding": torch.stack((a, b), 1).to(self.dtype)})

    def _no_snapshots(self) -> dict[str, Tensor]:
        """Room on the host for what is kept, ``[run, snapshot, ...]``: NaN (counters: 0) until then."""
        view, dimensions = self.source.evaluation()[0], self.config.network.dimensions
        sizes = {"embedding": (2, view.shape[1 if self.own else 0], dimensions)}
        dtypes = {"embedding": self.dtype}
        for kind, tensors in (("parameter", self.networks.parameters), ("buffer", self.networks.buffers)):
            sizes |= {f"{kind}.{name}": tuple(t.shape[1:]) for name, t in tensors.items()}
            dtypes |= {f"{kind}.{name}": t.dtype for name, t in tensors.items()}
        return {
            name: torch.full(
                (self.config.runs, len(self.kept), *size),
                torch.nan if dtypes[name].is_floating_point else 0,
                dtype=dtypes[name],
            )
            for name, size in sizes.items()
        }

    def _keep_networks(self, step: int) -> None:
        """Keep parameters and running statistics, before a forward pass changes the latter."""
        if step in self.kept:
            values = {f"parameter.{name}": t.detach() for name, t in self.networks.parameters.items()}
            self._keep(step, values | {f"buffer.{name}": t for name, t in self.networks.buffers.items()})

    def _keep(self, step: int, values: dict[str, Tensor]) -> None:
        """Copy what belongs to a kept step to the host."""
        rows = self.rows.cpu()
        for name, value in values.items():
            self.snapshots[name][rows, self.kept[step]] = value.cpu()

    def maintain(self, step: int) -> bool:
        """Drop the runs that diverged; false if no run is left."""
        self._watch(step)
        return len(self.rows) > 0

    def _watch(self, step: int) -> None:
        """Look at the losses logged since the last time, and at the parameters now (the log is sparse)."""
        finite = torch.stack([t.isfinite().flatten(1).all(1) for t in self.networks.parameters.values()])
        kept = self.statuses.survivors(
            self.log, "loss", self.rows, finite.all(0), since=self._watched, step=step, blank=self._blank
        )
        self._watched = step
        if len(kept) == len(self.rows):
            return
        self._take(kept.to(self.device))

    def _take(self, kept: Tensor) -> None:
        """Go on with the runs at these places."""
        self.rows = self.rows[kept]
        if not len(kept):
            return
        self.networks.take(kept)
        self.optimizer.take(list(self.networks.parameters.values()), lambda tensor: tensor[kept], kept)
        self.source = _chosen(self.source, kept.tolist())
        self.rate = self.rate[kept]
        self.biased = None if self.biased is None else self.biased[kept]
        self._group()

    def _blank(self, run: int) -> None:
        """What was logged between a divergence and its discovery is no result."""
        since = self.statuses[run].step
        self.log.blank(run, after=since)
        ensemble.blank_snapshots(self.snapshots, self.kept, run, after=since)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that decides the rest of the training and its result, as flat tensors."""
        own = {"rows": self.rows, "watched": torch.tensor(self._watched)}
        parts = {
            "parameter": self.networks.parameters,
            "buffer": self.networks.buffers,
            "optimizer": self.optimizer.state_dict(),
            "log": self.log.values,
            "snapshot": self.snapshots,
            "status": self.statuses.state_dict(),
        }
        return ensemble.flat_state(own, parts)

    def load_state_dict(self, flat: Mapping[str, Tensor]) -> None:
        """Put back, into a program that has not begun, what `state_dict` gave."""
        part = partial(ensemble.part_of, flat, device=self.device)
        places = [self.order.index(run) for run in flat["rows"].tolist()]
        self._take(torch.tensor(places, dtype=torch.int64, device=self.device))
        if places:
            ssl_networks.load(self.networks, part("parameter"), part("buffer"))
            self.optimizer.load_state_dict(part("optimizer"))
        self.log.values = part("log")
        self.statuses.load_state_dict(part("status", device="cpu"))
        self.snapshots = part("snapshot", device="cpu")
        self._watched = int(flat["watched"])


def representation_spectrum(
    a: Float[Tensor, "*run pair hidden"], b: Float[Tensor, "*run pair hidden"], modes: int
) -> Float64[Tensor, "*run hidden_mode"]:
    """The largest eigenvalues of the covariance of all 2n representations, padded with zeros to ``modes``.

    Where there are fewer samples than neurons they are those of the Gram matrix of the samples.
    """
    both = torch.cat((a, b), -2).double()
    both = both - both.mean(-2, keepdim=True)
    samples, hidden = both.shape[-2:]
    product = both @ both.mT if samples < hidden else both.mT @ both
    found = spectra.sorted_eigenvalues(product / samples)[..., :modes]
    return nn.functional.pad(found, (0, modes - found.shape[-1]))


def _first_with_equal_pairs(pairs: PairSource, runs: int) -> list[int]:
    """For each run the first one that sees the same; zeros where that is not known to matter."""
    if not isinstance(pairs, FixedPairs) or pairs.runs is None:
        return [0] * runs
    found: list[int] = []
    for run in range(runs):
        a, b = pairs.view_a[run], pairs.view_b[run]
        firsts = (first for first in dict.fromkeys(found) if torch.equal(pairs.view_a[first], a))
        found.append(next((first for first in firsts if torch.equal(pairs.view_b[first], b)), run))
    return found


def _chosen(source: PairSource, runs: list[int]) -> PairSource:
    return source if source.runs is None else source.select(runs)


def _name_of_last_bias(network: Network) -> str:
    last = network.last
    return next((name for name, p in network.named_parameters() if p is last.bias), "")


def _names(config: SSLConfig) -> list[str]:
    return [
        f"loss {loss.kind}, seed {seed}, learning_rate {rate:g}, body_scale {body:g}, head_scale {head:g}"
        for loss, seed, rate, body, head in zip(
            config.loss,
            config.seed,
            config.learning_rate,
            config.body_scale,
            config.head_scale,
            strict=True,
        )
    ]
