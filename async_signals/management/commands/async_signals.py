"""``manage.py async_signals``: see what became of deliveries, and change it."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.management.color import color_style, no_style
from django.db import DatabaseError

from ...cli.arguments import add_verbs
from ...cli.terminal import Terminal
from ...exceptions import OperationError
from ...ledger import alias

__all__ = ["Command"]

PROBLEMS, USAGE = 1, 2  # Exit codes.
STOPPED, UNREAD = 130, 141  #: As shells have it: 128, and SIGINT or SIGPIPE.


class Command(BaseCommand):
    """One command with a verb for each thing to do."""

    help = "Look at the deliveries of asynchronous receivers: list, retry, replay, doctor ..."
    # Doctor has to work on a site that is broken; it runs the checks itself.
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the verbs."""
        add_verbs(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        """Run the verb, and end with its exit code."""
        if hasattr(self.stdout, "reconfigure"):
            # As Python does on stderr: what the encoding has no character for is escaped.
            self.stdout.reconfigure(errors="backslashreplace")
        try:
            code = options["run"](self._terminal(options), options)
            self.stdout.flush()
        except KeyboardInterrupt as exc:
            raise CommandError(
                f"stopped {options['verb']}: what was done until then stays, and is in the audit.",
                returncode=STOPPED,
            ) from exc
        except BrokenPipeError:  # Whoever read it has seen enough, as in "list | head -1".
            _write_nowhere()
            sys.exit(UNREAD)
        except OperationError as exc:
            raise CommandError(str(exc), returncode=USAGE) from exc
        except DatabaseError as exc:
            using = options.get("database") or alias()
            raise CommandError(
                f"cannot use the ledger in database {using!r}: {exc}. Run `manage.py async_signals "
                f"doctor`, or `manage.py migrate async_signals --database {using}`.",
                returncode=PROBLEMS,
            ) from exc
        if code:
            sys.exit(code)

    def _terminal(self, options: dict[str, Any]) -> Terminal:
        wanted = not options["no_color"] and not os.environ.get("NO_COLOR")
        has_color = bool(options["force_color"] or (wanted and self.stdout.isatty()))
        # Colours are put on by the terminal; without this, Django colours all of stderr.
        self.stderr.style_func = None
        return Terminal(
            out=self.stdout,
            err=self.stderr,
            style=color_style(force_color=True) if has_color else no_style(),
            has_color=has_color,
            database=options.get("database") or "",
            is_json=options["json"],
        )


def _write_nowhere() -> None:
    """Let Python write what is left when it ends, without an error about it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
