"""
Make a fresh checkout ready to run; needs nothing but Python's standard library.

``ensure("demo")`` returns once the packages of the extra ``demo`` can be imported. Where they
cannot, it installs them into ``.venv`` in the checkout, and runs the same command again there.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
PYPROJECT = CHECKOUT / "pyproject.toml"
VENV = CHECKOUT / ".venv"
PYTHON = VENV / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def ensure(extra: str) -> None:
    """Return when everything that *extra* asks for is installed, in this process or the next."""
    if sys.version_info < (3, 11):  # noqa: UP036  (nobody has checked it yet)
        sys.exit(f"cannot run: expected Python 3.11 or newer, got: {sys.version.split()[0]}.")
    if not missing_from(extra):
        return
    inside = Path(sys.prefix).resolve() == VENV.resolve()
    stamp = stamp_of(extra)
    if inside or not stamp.is_fresh() or not PYTHON.exists():
        install(extra)
        stamp.write()
    if not inside:
        run_again()
    importlib.invalidate_caches()
    if missing := missing_from(extra):
        sys.exit(f"cannot run: {', '.join(missing)} did not install. Remove {VENV}, and try again.")


def missing_from(extra: str) -> list[str]:
    """Return the names of the distributions that *extra* needs and that are not installed."""
    return [name for name in sorted(requirements_of(extra)) if not _is_installed(name)]


def requirements_of(extra: str) -> set[str]:
    """Return the names of what pyproject.toml asks for, for the package and its *extra*."""
    import tomllib  # Not before the version of Python is known to have it.

    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    names: set[str] = set()
    waiting = [*project["dependencies"], *project["optional-dependencies"][extra]]
    while waiting:
        name, _, extras = re.match(r"([\w.-]+)(\[([\w, -]+)\])?", waiting.pop()).groups("")  # type: ignore[union-attr]
        if name == project["name"]:
            for inner in extras.split(","):
                waiting += project["optional-dependencies"][inner.strip()]
            continue
        names.add(name)
        # What the extras of others bring, as far as the demo cannot do without it.
        names |= {"lua": {"lupa"}, "redis": {"redis"}}.get(extras, set())
    return names


def _is_installed(name: str) -> bool:
    try:
        importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


# -- The stamp: what was installed, so that the next start needs neither time nor network


class Stamp:
    """A file in the environment that names the pyproject.toml that it was installed from."""

    def __init__(self, path: Path, pyproject: Path) -> None:
        self.path = path
        self.content = hashlib.sha256(pyproject.read_bytes()).hexdigest()

    def is_fresh(self) -> bool:
        return self.path.is_file() and self.path.read_text(encoding="ascii") == self.content

    def write(self) -> None:
        self.path.write_text(self.content, encoding="ascii")


def stamp_of(extra: str) -> Stamp:
    """Return the stamp of *extra* in the checkout's environment."""
    return Stamp(VENV / f"{extra}.stamp", PYPROJECT)


# -- The environment


def install(extra: str) -> None:
    """Install the checkout with *extra* into its environment, and let pip show how far it is."""
    _say(f"installing what the {extra} needs into {VENV}; only the first start does this.")
    if not _has_pip():
        create()
    # A folder as requirement, so that pip works from a path with any characters in it.
    command = [PYTHON, "-m", "pip", "install", "--disable-pip-version-check", "-e", f".[{extra}]"]
    if code := subprocess.run(command, cwd=CHECKOUT, check=False).returncode:
        sys.exit(f"cannot install the {extra}: pip ended with exit code {code}; see above.")
    _say("installed.")


def create() -> None:
    """Create the environment, or say which package of the system can."""
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        sys.exit(_without_venv())
    if code := subprocess.run([sys.executable, "-m", "venv", VENV], check=False).returncode:
        sys.exit(f"cannot create {VENV}: python -m venv ended with exit code {code}; see above.")


def _has_pip() -> bool:
    command = [PYTHON, "-m", "pip", "--version"]
    return PYTHON.exists() and not subprocess.run(command, capture_output=True).returncode  # noqa: PLW1510


def _without_venv() -> str:
    package = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
    return (
        f"cannot create {VENV}: this Python has no venv or no ensurepip, which some systems "
        f"package apart. On Debian and Ubuntu: sudo apt install {package}; then run the same "
        "command again."
    )


def run_again() -> None:
    """Run the command that this process was started with in the environment."""
    main = sys.modules["__main__"].__spec__
    arguments = [str(PYTHON), "-m", main.parent, *sys.argv[1:]]  # type: ignore[union-attr]
    sys.stdout.flush()
    if os.name == "nt":  # There, exec would return to the shell at once.
        sys.exit(subprocess.call(arguments))
    os.execv(arguments[0], arguments)


def _say(text: str) -> None:
    print(f"{'set-up':>7} | {text}", file=sys.stderr, flush=True)
