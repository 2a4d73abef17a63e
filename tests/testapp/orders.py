"""What a receiver is told to do, run by run, whichever process the run is in."""

import os
import signal
import time
from pathlib import Path

from .reports import report


def carry_out(number, orders, **what) -> None:
    run = _count_run(number)
    order = orders[run] if run < len(orders) else "succeed"
    report(number=number, run=run, order=order, pid=os.getpid(), **what)
    match order.split(":"):
        case ["raise"]:
            raise OSError(f"ordered to fail in run {run}")
        case ["die"]:
            os.kill(os.getpid(), signal.SIGKILL)
        case ["exit"]:
            raise SystemExit(1)
        case ["wait", seconds]:
            time.sleep(float(seconds))
    report(number=number, run=run, done=True, **what)


def _count_run(number) -> int:
    path = Path(os.environ["ASYNC_SIGNALS_TEST_FOLDER"]) / f"runs-{number}"
    with path.open("a") as file:
        file.write(".")
        return file.tell() - 1
