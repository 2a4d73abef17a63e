"""``python3 -m tests [argument of pytest ...]``: all tests, from a fresh checkout."""

import os
import subprocess
import sys

from demo_project import bootstrap

#: Most of the time tests wait for servers and processes. ``-n 0`` turns it off, for a debugger.
SIDE_BY_SIDE = ("-n", "2", "--dist", "loadfile")

if __name__ == "__main__":
    try:
        bootstrap.ensure("test")
    except KeyboardInterrupt:
        sys.exit(130)
    os.chdir(bootstrap.CHECKOUT)
    command = [sys.executable, "-m", "pytest", *SIDE_BY_SIDE, *sys.argv[1:]]
    if os.name == "nt":  # There, exec would return to the shell at once.
        sys.exit(subprocess.call(command))
    os.execv(command[0], command)
