"""Speed and memory of the Scan & Snap chapter. See README.md beside this file.

python benchmarks/scan_snap.py [grid grid_scaling symmetric flow text cuda] [--quick] [--full] [--threads 2]
"""

from __future__ import annotations

from collections.abc import Callable

from command_line import run
from scan_snap_sections import finite_length, flows, gpu, language
from timing import Options

SECTIONS: dict[str, Callable[[Options], None]] = {
    "grid": finite_length.grid_section,
    "grid_scaling": finite_length.scaling,
    "symmetric": flows.symmetric_section,
    "flow": flows.flow_section,
    "text": language.text,
    "cuda": gpu.cuda,
}

if __name__ == "__main__":
    run(
        "Speed and memory of the Scan & Snap chapter.",
        SECTIONS,
        full="grid: train all one-hot runs of one cell in each task to the end as well",
        child=finite_length.child,
    )
