"""Section evaluation: k-NN and linear probes of many checkpoints at once, against scikit-learn one by one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from timing import Options, Work, heading, interleave, note, table, verdict
from torch import Tensor

from learndyn.core.backbones import MLPConfig
from learndyn.core.device import generator
from learndyn.core.evaluation import knn_accuracy, linear_probe
from learndyn.ssl_dynamics.stepwise.tasks import digit_split

NEIGHBOURS = 5


def evaluation(options: Options) -> None:
    """Hidden representations of MLPs on 1000 training digits and the 797 others."""
    problems, width, count = (2, 8, 100) if options.quick else (24, 64, 1000)
    heading("evaluation", f"{problems} checkpoints, {width} features, {count} training digits, float64")
    train, test = digit_split(0, count)
    held_out = test.subset(torch.arange(min(len(test.labels), count)))
    features = [representations(split.images, problems, width) for split in (train, held_out)]
    labels = [split.labels for split in (train, held_out)]
    operations = 2.0 * problems * count * len(labels[1]) * width
    with threadpool_limits(options.threads):
        calls = {
            f"{NEIGHBOURS}-NN, at once": lambda: knn_accuracy(
                features[0], labels[0], features[1], labels[1], k=NEIGHBOURS
            ),
            f"{NEIGHBOURS}-NN, scikit-learn": lambda: one_by_one(
                KNeighborsClassifier(NEIGHBOURS), features, labels
            ),
        }
        _compare(calls, dict.fromkeys(calls, Work(operations, 0.0)), options)
        calls = {
            "linear probe, at once": lambda: probe(features, labels),
            "linear probe, scikit-learn": lambda: one_by_one(logistic(tolerance=1e-8), features, labels),
            "linear probe, scikit-learn's tolerance": lambda: one_by_one(logistic(), features, labels),
        }
        note("linear probes: at its tolerance 1e-8 scikit-learn is as near the minimum as we are (1e-9)")
        _compare(calls, {}, options)


def _compare(calls: dict[str, Callable[[], Tensor]], works: dict[str, Work], options: Options) -> None:
    timings = interleave(calls, options, rounds=2 if options.quick else 3)
    table(timings, works)
    found = {name: call() for name, call in calls.items()}
    ours, *theirs = calls
    for name in theirs:
        gap = float((found[ours] - found[name]).abs().max())
        verdict(f"{name} / at once (accuracies differ by {gap:.4f} at most)", timings.ratio(name, ours))


def probe(features: list[Tensor], labels: list[Tensor]) -> Tensor:
    """Test accuracy of the library's linear probe on each problem."""
    return linear_probe(features[0], labels[0]).accuracy(features[1], labels[1])


def logistic(tolerance: float = 1e-4) -> Pipeline:
    """The same regression by scikit-learn, with its own tolerance or another one."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=1.0, tol=tolerance, max_iter=1000))


def representations(images: Tensor, networks: int, width: int) -> Tensor:
    """Hidden layers of so many untrained MLPs, ``[network, image, feature]``."""
    config = MLPConfig(hidden=(width,))
    with torch.no_grad():
        found = [config.build(generator(seed, "weights"))(images)[1] for seed in range(networks)]
    return torch.stack(found).double()


def one_by_one(model: object, features: list[Tensor], labels: list[Tensor]) -> Tensor:
    """Test accuracy of a scikit-learn classifier on each problem."""
    known, asked = (label.numpy() for label in labels)
    scores = [model.fit(a.numpy(), known).score(b.numpy(), asked) for a, b in zip(*features, strict=True)]
    return torch.from_numpy(np.array(scores))
