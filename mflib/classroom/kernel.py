"""The kernel of a submission: limits first, then IPython's own kernel.

Run as ``python -m mflib.classroom.kernel SECONDS MEMORY_GIB FILE_MIB -f CONNECTION_FILE``.
"""

import sys

from ipykernel import kernelapp

from mflib.classroom.isolation import Limits

if __name__ == "__main__":
    Limits(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])).apply()
    kernelapp.launch_new_instance(sys.argv[4:])
