"""
The command line of the demo, and what it needs from this machine.

The standard library is enough to read the arguments; the rest needs ``bootstrap.ensure()``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from demo_project.demo import HERE, Demo, DemoError, Stopped
from demo_project.processes import say

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python3 -m demo_project",
        description="A site that searches movies, with a worker that runs its signal receivers.",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="end as soon as the worker has sent the mail; the exit code says whether it did",
    )
    parser.add_argument(
        "--broker",
        metavar="URL",
        help="a real one: redis://host:port/number or amqp://user:password@host:port//",
    )
    parser.add_argument(
        "--database",
        metavar="URL",
        default="",
        help="postgres://user:password@host/name or sqlite:///file; "
        "it gets the demo's tables, and a user admin whose password is admin",
    )
    parser.add_argument(
        "--port", type=int, default=8000, help="of the site; a free one if it is taken"
    )
    return parser.parse_args(arguments)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo until it is stopped, and return the exit code."""
    try:
        with contextlib.ExitStack() as closing:
            data = Path(os.environ.get("DEMO_DATA") or HERE / "data")
            if arguments.once:
                data = Path(closing.enter_context(tempfile.TemporaryDirectory(prefix="demo-")))
            broker = arguments.broker
            if broker:
                reach(broker)
            else:
                from demo_project.broker import embedded_broker

                broker = closing.enter_context(embedded_broker())
                say("broker", "Embedded, in memory: for the demo and for development only.")
            demo = Demo(data=data, broker=broker, database=arguments.database)
            closing.callback(demo.end)
            demo.start(port=free_port(arguments.port))
            if not arguments.once:
                closing.enter_context(demo.written_down())
            demo.show()
            if not arguments.once:
                demo.serve()
    except Stopped:
        say("demo", "Stopped.")
        return int(arguments.once)  # Stopped before the mail was sent.
    except DemoError as exc:
        say("demo", f"Failed: {exc}")
        return 1
    say("demo", "Done.")
    return 0


def reach(broker: str) -> None:
    """
    Make sure that somebody answers at the URL of a real broker.

    Raises:
        DemoError: Nobody does.
    """
    from kombu import Connection

    connection = Connection(broker, connect_timeout=3)
    try:
        connection.ensure_connection(max_retries=1, timeout=5)
    except Exception as exc:  # noqa: BLE001  (each transport has its own)
        raise DemoError(f"cannot reach the broker at {connection.as_uri()}: {exc}") from None
    finally:
        connection.release()


def free_port(wanted: int) -> int:
    """Return *wanted* if nobody has it, else a port that is free."""
    for port in (wanted, 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            if os.name != "nt":  # There, the option means something else.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return probe.getsockname()[1]
    raise DemoError("no port is free.")
