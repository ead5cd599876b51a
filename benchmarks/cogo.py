"""Speed, memory and scaling of the CoGO chapter. See README.md beside this file.

python benchmarks/cogo.py [step run closed ensemble solvers scaling memory cuda]
                          [--quick] [--full] [--threads 2]
"""

from __future__ import annotations

from collections.abc import Callable

from cogo_sections import analysis, gpu, one_step, whole_runs
from command_line import run
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

if __name__ == "__main__":
    run(
        "Speed, memory and scaling of the CoGO chapter.",
        SECTIONS,
        full="run: train the usual trainer to the end as well",
        child=analysis.analyse,
    )
