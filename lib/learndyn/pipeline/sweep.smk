# The workflow of `learndyn sweep`: one job per group of runs that train together, then one that gathers them.
#
# The command writes the plan (its --configfile) and calls Snakemake; nothing is meant to be set here. What belongs to a
# machine (partition, GPU model, memory, time limit) is set in a profile: see sweeps/profiles/.
#
# A group's file is named after a hash of what decides its content, so "the file is there" means "the work is done";
# files appear whole or not at all.
import sys

PLAN = config["plan"]
JOB = f'"{sys.executable}" -m learndyn.pipeline.sweep'
# No gpu resource at all, rather than gpu=0, when the sweep runs on CPUs: schedulers take the word itself as a request.
GPU = {"gpu": 1, "gpu_manufacturer": "nvidia"} if config["gpu"] else {}


localrules:
    all,
    gather,


wildcard_constraints:
    group="[0-9a-f]{16}",


rule all:
    input:
        local(config["gathered"]),


rule train:
    output:
        "{group}.nc",
    log:
        "logs/{group}.log",
    threads: 2
    resources:
        **GPU,
    shell:
        '{JOB} job "{PLAN}" {wildcards.group} {output} --threads {threads} > {log} 2>&1'


rule gather:
    input:
        [f"{group}.nc" for group in config["groups"]],
    output:
        local(config["gathered"]),
    log:
        "logs/gather.log",
    shell:
        '{JOB} gather "{PLAN}" {output} {input} > {log} 2>&1'
