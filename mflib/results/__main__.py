"""What Snakemake calls for each group: ``python -m mflib.results MANIFEST NAME``."""

import sys

from mflib.results.running import job

if __name__ == "__main__":
    sys.exit(job(sys.argv[1:]))
