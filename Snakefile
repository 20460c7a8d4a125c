# What depends on what. A notebook's inputs are compared by content: its stamp in _build/inputs is
# rewritten exactly if the executed copy came from other content, and lists the files that count.
# They are not inputs of their own, since Snakemake would then heed their times.

import shlex
import sys

from mflib import build, notebooks, paths

MFLIB = f"MFLIB_FOLLOW_PARENT=1 exec {shlex.quote(sys.executable)} -m mflib"


workdir: str(paths.root())


rule book:
    default_target: True
    input:
        "_build/book.json",


rule html:
    input:
        str(build.book_stamp()),
        [str(notebooks.executed(name)) for name in notebooks.names()],
    output:
        "_build/book.json",
    threads: workflow.cores
    shell:
        "{MFLIB}.build html"


for name in notebooks.names():

    rule:
        name:
            f"notebook_{name}"
        input:
            str(build.notebook_stamp(name)),
        output:
            str(notebooks.executed(name)),
        params:
            name=name,
        # All of them: a notebook's computations use every core, so notebooks go one by one.
        threads: workflow.cores
        shell:
            "{MFLIB}.cli run {params.name} --profile quick"
