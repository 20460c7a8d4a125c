# One job for each group of shards that the store lacks; which those are, mflib.results decides.
# This file is read again by every job on a cluster, so it imports nothing slow.

import json
import os
import shlex
from pathlib import Path

MANIFEST = Path(os.environ["MFLIB_MANIFEST"])
WORK = json.loads(MANIFEST.read_text(encoding="utf-8"))
NEEDS, NAMES = WORK["needs"], list(WORK["jobs"])
JOB = f"MFLIB_FOLLOW_PARENT=$PPID exec {shlex.quote(os.environ['MFLIB_PYTHON'])} -m mflib.results"


rule results:
    default_target: True
    localrule: True
    input:
        [f"done/{name}" for name in NAMES],


rule group:
    output:
        "done/{name}",
    params:
        # a function, since a text here is a pattern, in which braces are wildcards
        manifest=lambda _: shlex.quote(str(MANIFEST)),
    # The most telling come first.
    priority: lambda wildcards: len(NAMES) - NAMES.index(wildcards.name)
    threads: NEEDS["cores"]
    resources:
        mem_mb=lambda wildcards, attempt: attempt * round(1000 * NEEDS["memory_gb"]),
        runtime=lambda wildcards, attempt: attempt * NEEDS["minutes"],
        **({"gpu": NEEDS["gpus"]} if NEEDS["gpus"] else {}),
    shell:
        "OMP_NUM_THREADS={threads} {JOB} {params.manifest} {wildcards.name}"
