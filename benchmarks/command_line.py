"""The command line that the benchmarks of all chapters share."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping

import torch
from timing import Options


def run(
    description: str,
    sections: Mapping[str, Callable[[Options], None]],
    *,
    full: str,
    child: Callable[..., None],
) -> None:
    """Run the sections that the command line names, or all.

    Args:
        full: what ``--full`` does.
        child: called with the texts after ``--child``: what a section measures in a process of its own.
    """
    parser = argparse.ArgumentParser(description=description)
    listed = ", ".join(sections)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"one of {listed}; all by default")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs")
    parser.add_argument("--full", action="store_true", help=full)
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.sections if name not in sections]:
        parser.error(f"there is no section {unknown[0]!r}; choose from {listed}")
    if arguments.threads < 1:
        parser.error(f"--threads must be at least 1, not {arguments.threads}")
    torch.set_num_threads(arguments.threads)
    if arguments.child:
        child(*arguments.child)
        return
    if arguments.quick:
        print("--quick: the sizes are too small for times, ratios or targets to mean anything.")
    options = Options(arguments.threads, arguments.quick, arguments.full)
    for name in arguments.sections or sections:
        sections[name](options)
