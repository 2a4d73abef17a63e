"""
Run a module that ends when the process that started it does, however that ended.

``python -m demo_project.lifeline module argument ...`` is ``python -m module argument ...``
whose standard input is a pipe that only the parent holds: the system closes it with the
parent, also when that was killed.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

#: Seconds to end in good order before the whole group of processes is killed.
GRACE = 3


def main() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


def _end_with_parent() -> None:
    # Not sys.stdin: a thread that waits in it would hold its lock when the interpreter ends.
    while os.read(0, 1024):
        pass
    if os.name == "nt":
        os._exit(1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
