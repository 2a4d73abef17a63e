"""``python3 -m demo_project``: the whole demo in one command."""

import sys

from demo_project import bootstrap, launcher

if __name__ == "__main__":
    try:
        arguments = launcher.parse(sys.argv[1:])
        bootstrap.ensure("demo")
        sys.exit(launcher.run(arguments))
    except KeyboardInterrupt:
        sys.exit(130)
