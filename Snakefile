# The book as a workflow: notebooks are executed in parallel, and only those whose content changed; then the site.
# `learndyn book` (or `make book`) runs it; `snakemake --cores all --config profile=paper` works too.
# What a notebook depends on is decided by content (learndyn.pipeline.dependencies), not by dates: its fingerprint is
# a parameter of the rule, and Snakemake re-runs a job whose parameters changed.
import sys
from pathlib import Path

from learndyn.pipeline.dependencies import dependencies, fingerprint, page_files
from learndyn.pipeline.project import QUICK, Project, github_address

PROJECT = Project(Path(workflow.basedir), config.get("profile", QUICK))
BUILD = f"_build/{PROJECT.profile}"
# A cell of the quick profile that takes this long hangs; other profiles train for hours.
CELL_TIMEOUT = 900 if PROJECT.profile in (QUICK, "smoke") else 7 * 24 * 3600


localrules:
    all,
    site,


rule all:
    input:
        f"{BUILD}/site.done",


rule notebook:
    input:
        "book/{name}.py",
    output:
        f"{BUILD}/notebooks/{{name}}.ipynb",
    log:
        notebook=f"{BUILD}/logs/{{name}}.ipynb",
        stderr=f"{BUILD}/logs/{{name}}.stderr",
    params:
        fingerprint=lambda wildcards: fingerprint(dependencies(PROJECT, wildcards.name)),
    threads: max(1, workflow.cores // max(1, len(PROJECT.notebooks)))
    shell:
        "{sys.executable:q} -m learndyn.pipeline.execute {wildcards.name:q} --root {PROJECT.root:q}"
        " --profile {PROJECT.profile:q} --log {log.notebook:q} --threads {threads} --cell-timeout {CELL_TIMEOUT}"
        " 2> {log.stderr:q}"


rule site:
    input:
        [f"{BUILD}/notebooks/{name}.ipynb" for name in PROJECT.notebooks],
    output:
        touch(f"{BUILD}/site.done"),
    params:
        fingerprint=lambda wildcards: fingerprint(page_files(PROJECT)),
        repository=github_address(PROJECT.root),
    log:
        f"{BUILD}/logs/site.stderr",
    shell:
        "{sys.executable:q} -m learndyn.pipeline.site --root {PROJECT.root:q} --profile {PROJECT.profile:q}"
        " 2> {log:q}"
