"""Settings of the notebook "Real text", and those of its archived runs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from learndyn.core.config import Config
from learndyn.core.corpora import corpus
from learndyn.core.device import Device
from learndyn.core.text_settings import Fraction, TextConfig

Text = Literal["topics", "docstrings", "wikitext2", "wikitext103"]
Steps = Annotated[tuple[NonNegativeInt, ...], Field(min_length=1)]


class RealText(Config):
    """The parameters cell of the notebook.

    ``text``, ``vocabulary_size`` (None: all words) to ``map_window`` are the run of Figure 7;
    ``probe_windows``: how many validation windows its attention is measured on. ``deep_…``: the run with
    more layers; with ``deep_steps`` 0 the archived one is shown. ``rate_…``: the ensemble of Figure 10, on
    each of ``rate_texts``. ``explorer_rates``: whose archived maps the explorer has. ``directory``: a folder
    with WikiText, or empty to download it. The archives' paths are relative to the checkout's root.
    """

    text: Text = "topics"
    directory: str = ""
    vocabulary_size: PositiveInt | None = 1000
    width: PositiveInt = 96
    learning_rate: PositiveFloat = 5.0
    dropout: Fraction = 0.3
    seed: NonNegativeInt = 0
    steps: PositiveInt = 1500
    figure_steps: Annotated[tuple[NonNegativeInt, ...], Field(min_length=2, max_length=4)] = (
        0, 500, 1000, 1500,
    )  # fmt: skip
    evaluation_steps: Steps = (0, 1500)
    snapshot_steps: Steps = (0, 500, 1000, 1500)
    map_window: NonNegativeInt = 50
    probe_windows: PositiveInt = 18
    deep_layers: Annotated[int, Field(ge=2)] = 3
    deep_steps: NonNegativeInt = 0
    rate_texts: Annotated[tuple[Text, ...], Field(min_length=1)] = ("topics",)
    rate_vocabulary_size: PositiveInt | None = 300
    rate_width: PositiveInt = 64
    rate_steps: PositiveInt = 150
    rate_evaluations: PositiveInt = 3
    rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=2)] = (1.0, 2.0, 3.0, 4.0, 5.0)
    rate_seeds: Annotated[tuple[NonNegativeInt, ...], Field(min_length=2)] = (0, 1)
    archive: str = "results/scan_snap/figure10.nc"
    slow_archive: str = "results/scan_snap/figure10_slow.nc"
    long_archive: str = "results/scan_snap/figure10_docstrings.nc"
    deep_archive: str = "results/scan_snap/figure7_deep.nc"
    explorer_rates: Annotated[tuple[PositiveFloat, ...], Field(min_length=1)] = (1.0, 3.0)
    device: Device = "cpu"
    progress: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> RealText:
        for name in ("figure_steps", "evaluation_steps", "snapshot_steps"):
            given = getattr(self, name)
            if list(given) != sorted(set(given)) or given[-1] > self.steps:
                raise ValueError(f"{name} must increase and end at {self.steps} or before")
        if not set(self.figure_steps) <= set(self.snapshot_steps):
            raise ValueError("figure_steps must be among snapshot_steps, when maps are kept")
        self._find_texts()
        return self

    def _find_texts(self) -> None:
        """Look for the files of ``directory`` now: some texts are read after minutes of training only."""
        if not self.directory:
            return
        from_files = [name for name in {self.text, *self.rate_texts} if name.startswith("wikitext")]
        if not from_files:
            raise ValueError(
                f"directory is {self.directory!r}, but neither text nor rate_texts names WikiText; "
                "choose 'wikitext2' or 'wikitext103', or leave directory empty"
            )
        for name in from_files:
            corpus(name, self.directory)

    @property
    def figure7(self) -> TextConfig:
        """The run of Figure 7, one layer."""
        return TextConfig(
            width=self.width,
            hidden_size=self.width,
            learning_rate=self.learning_rate,
            dropout=self.dropout,
            seed=self.seed,
            steps=self.steps,
            evaluation_steps=self.evaluation_steps,
            snapshot_steps=self.snapshot_steps,
            map_window=self.map_window,
        )

    @property
    def deep(self) -> TextConfig:
        """The same with ``deep_layers`` layers, for ``deep_steps`` iterations."""
        return self.figure7.replace(
            layers=self.deep_layers,
            steps=self.deep_steps,
            evaluation_steps=tuple(step for step in self.evaluation_steps if step <= self.deep_steps),
            snapshot_steps=tuple(step for step in self.snapshot_steps if step <= self.deep_steps),
        )

    @property
    def figure10(self) -> TextConfig:
        """The ensemble of Figure 10: ``rates`` × ``rate_seeds``, one rate for all parameters."""
        grid = [(rate, seed) for rate in self.rates for seed in self.rate_seeds]
        gap = max(1, self.rate_steps // self.rate_evaluations)
        return TextConfig(
            width=self.rate_width,
            hidden_size=self.rate_width,
            learning_rate=[rate for rate, _ in grid],
            seed=[seed for _, seed in grid],
            hidden_rate_factor=1.0,
            steps=self.rate_steps,
            evaluation_steps=[*range(0, self.rate_steps, gap), self.rate_steps],
        )

    @property
    def is_published_model(self) -> bool:
        """Whether Figure 7 is trained as published: WikiText-2, all words, width 200, rate 5, 1500 steps."""
        published = RealText(text="wikitext2", vocabulary_size=None, width=200, map_window=100)
        trained = ("text", "vocabulary_size", "width", "learning_rate", "dropout", "steps", "map_window")
        return all(getattr(self, name) == getattr(published, name) for name in trained) and (
            self.figure_steps == published.figure_steps
        )

    @property
    def is_published_sweep(self) -> bool:
        """Whether Figure 10 has its texts, its model, its rates and five seeds."""
        return (
            {"wikitext2", "wikitext103"} <= set(self.rate_texts)
            and (self.rate_vocabulary_size, self.rate_width) == (None, 200)
            and {1.0, 2.0, 3.0, 4.0, 5.0} <= set(self.rates)
            and len(self.rate_seeds) >= 5
        )
