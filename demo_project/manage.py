#!/usr/bin/env python
"""Django's commands for the demo's site."""

import os
import sys
from pathlib import Path

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "core.settings")
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # async_signals, if not installed

    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)
