"""Section evaluation: k-NN and linear probes of many checkpoints at once, against scikit-learn one by one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
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
    cases: dict[str, tuple[Callable[[], Tensor], Callable[[], Tensor], float]] = {
        f"{NEIGHBOURS}-NN": (
            lambda: knn_accuracy(features[0], labels[0], features[1], labels[1], k=NEIGHBOURS),
            lambda: one_by_one(KNeighborsClassifier(NEIGHBOURS), features, labels),
            2.0 * problems * count * len(labels[1]) * width,
        ),
        "linear probe": (
            lambda: linear_probe(features[0], labels[0]).accuracy(features[1], labels[1]),
            lambda: one_by_one(
                make_pipeline(StandardScaler(), LogisticRegression(C=1.0, max_iter=1000)), features, labels
            ),
            0.0,
        ),
    }
    with threadpool_limits(options.threads):
        for name, (ours, theirs, operations) in cases.items():
            calls = {f"{name}, at once": ours, f"{name}, scikit-learn": theirs}
            timings = interleave(calls, options, rounds=2 if options.quick else 3)
            table(timings, dict.fromkeys(calls, Work(operations, 0.0)) if operations else {})
            gap = float((ours() - theirs()).abs().max())
            note(f"largest difference of the accuracies {gap:.4f}")
            verdict(f"{name}, scikit-learn / at once", timings.ratio(*reversed(calls)))


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
