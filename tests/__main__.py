"""``python3 -m tests [argument of pytest ...]``: all tests, from a fresh checkout."""

import os
import subprocess
import sys

from demo_project import bootstrap

if __name__ == "__main__":
    try:
        bootstrap.ensure("test")
    except KeyboardInterrupt:
        sys.exit(130)
    os.chdir(bootstrap.CHECKOUT)
    command = [sys.executable, "-m", "pytest", *sys.argv[1:]]
    if os.name == "nt":  # There, exec would return to the shell at once.
        sys.exit(subprocess.call(command))
    os.execv(command[0], command)
