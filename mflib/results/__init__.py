"""The papers' long computations at full scale: what they are, how far they are, and their tables.

A computation is named by its row in the register of results, such as ``mft-fig2``. It is made of
shards, which the store keeps, in groups that a GPU computes in a few minutes each, the most telling
first. Snakemake runs the groups that are missing; whatever is complete is put together into a
table in results/, with a record of where it came from. ``rehearse`` does all of it with tiny sizes.

Nothing heavy is imported before it is needed: the command line attaches this package's own.
"""

from mflib.results.registry import REGISTRY, computation, groups
from mflib.results.running import Job, job, pending, run
from mflib.results.tables import Status, collect, compute_group, status, table_file

__all__ = [
    "REGISTRY", "Job", "Status", "collect", "computation", "compute_group", "groups", "job",
    "pending", "run", "status", "table_file",
]  # fmt: skip
