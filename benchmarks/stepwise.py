"""Speed and memory of the chapter on stepwise SSL. See README.md beside this file.

(Not called ssl.py: Python would take that for its own module of this name.)

python benchmarks/stepwise.py [toy toy_scaling ensemble augment resnet tangent evaluation
                               resnet_cuda augment_cuda] [--quick] [--full] [--threads 2]
"""

from __future__ import annotations

from collections.abc import Callable

from command_line import run
from ssl_sections import augmentation, evaluations, linear_toy, mlp_ensemble, resnet_step, tangent
from timing import Options

SECTIONS: dict[str, Callable[[Options], None]] = {
    "toy": linear_toy.toy_section,
    "toy_scaling": linear_toy.scaling,
    "ensemble": mlp_ensemble.ensemble,
    "augment": augmentation.augment,
    "resnet": resnet_step.resnet,
    "tangent": tangent.tangent,
    "evaluation": evaluations.evaluation,
    "resnet_cuda": resnet_step.resnet_cuda,
    "augment_cuda": augmentation.augment_cuda,
}

if __name__ == "__main__":
    run(
        "Speed and memory of the chapter on stepwise SSL.",
        SECTIONS,
        full="ensemble: whole trainings as well",
        child=tangent.child,
    )
