"""Speed and memory of the chapter on stepwise SSL. See README.md beside this file.

(Not called ssl.py: Python would take that for its own module of this name.)

python benchmarks/stepwise.py [toy toy_scaling ensemble augment resnet tangent evaluation
                               resnet_cuda augment_cuda] [--quick] [--full] [--threads 2]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
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


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory of the chapter on stepwise SSL.")
    listed = ", ".join(SECTIONS)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"one of {listed}; all by default")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--full", action="store_true", help="ensemble: whole trainings as well")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument("--tangent-child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.sections if name not in SECTIONS]:
        parser.error(f"there is no section {unknown[0]!r}; choose from {listed}")
    if arguments.threads < 1:
        parser.error(f"--threads must be at least 1, not {arguments.threads}")
    torch.set_num_threads(arguments.threads)
    if arguments.tangent_child:
        tangent.child(*arguments.tangent_child)
        return
    if arguments.quick:
        print("--quick: the sizes are too small for times, ratios or targets to mean anything.")
    options = Options(arguments.threads, arguments.quick, arguments.full)
    for name in arguments.sections or SECTIONS:
        SECTIONS[name](options)


if __name__ == "__main__":
    main()
