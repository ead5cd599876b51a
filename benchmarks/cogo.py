"""Speed, memory and scaling of the CoGO chapter. See README.md beside this file.

python benchmarks/cogo.py [step run closed ensemble solvers scaling memory cuda]
                          [--quick] [--full] [--threads 2]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from cogo_sections import analysis, gpu, one_step, whole_runs
from timing import Options

SECTIONS: dict[str, Callable[[Options], None]] = {
    "step": one_step.step,
    "run": whole_runs.run,
    "closed": one_step.closed,
    "ensemble": whole_runs.ensemble,
    "solvers": analysis.solvers,
    "scaling": one_step.scaling,
    "memory": analysis.memory,
    "cuda": gpu.cuda,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed, memory and scaling of the CoGO chapter.")
    listed = ", ".join(SECTIONS)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"one of {listed}; all by default")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--full", action="store_true", help="run: train the usual trainer to the end as well")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument("--analysis-child", nargs=2, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.sections if name not in SECTIONS]:
        parser.error(f"there is no section {unknown[0]!r}; choose from {listed}")
    if arguments.threads < 1:
        parser.error(f"--threads must be at least 1, not {arguments.threads}")
    torch.set_num_threads(arguments.threads)
    if arguments.analysis_child:
        analysis.analyse(*arguments.analysis_child)
        return
    if arguments.quick:
        print("--quick: the sizes are too small for times, ratios or targets to mean anything.")
    options = Options(arguments.threads, arguments.quick, arguments.full)
    for name in arguments.sections or SECTIONS:
        SECTIONS[name](options)


if __name__ == "__main__":
    main()
