"""What the documentation names exists, and what exists is documented."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from async_signals.conf import Settings
from async_signals.options import Options

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "async_signals"
REFERENCE = (ROOT / "docs" / "reference.md").read_text()


def test_every_row_of_the_semantics_has_its_tests() -> None:
    """27 rows, each with a test class or file that exists."""
    table = (ROOT / "docs" / "semantics.md").read_text()
    rows = re.findall(r"^\| (\d+) \|.*\| ([^|]+) \|$", table, re.MULTILINE)
    classes = {
        node.name
        for node in ast.parse((ROOT / "tests" / "test_django_semantics.py").read_text()).body
        if isinstance(node, ast.ClassDef)
    }

    assert [int(number) for number, _ in rows] == list(range(1, 28))
    for number, tests in rows:
        for name in re.findall(r"`([^`]+)`", tests):
            assert name in classes or (ROOT / name).is_file(), f"row {number} names {name}"


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Options)])
def test_every_option_is_documented(name) -> None:
    """docs/reference.md names each option of a receiver."""
    assert f"`{name}`" in REFERENCE


@pytest.mark.parametrize("name", [field.name.upper() for field in dataclasses.fields(Settings)])
def test_every_setting_is_documented(name) -> None:
    """docs/reference.md shows each key of ASYNC_SIGNALS."""
    assert f'"{name}":' in REFERENCE


def test_every_check_is_documented() -> None:
    """Each id of a system check stands in docs/reference.md, and each there exists."""
    in_code = set(re.findall(r"async_signals\.[EW]\d{3}", (PACKAGE / "checks.py").read_text()))

    assert in_code == set(re.findall(r"async_signals\.[EW]\d{3}", REFERENCE))


def test_every_promise_has_its_test() -> None:
    """docs/guarantees.md names tests that exist, one in each row that promises something."""
    page = (ROOT / "docs" / "guarantees.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ") and "---" not in line]
    promises = [line for line in rows if not line.startswith(("| fault |", "| what is tried |"))]

    assert len(promises) > 30
    for line in promises:
        named = re.findall(r"`(tests/[^`]+)`", line)
        assert named or "not tested: nothing is promised" in line, line
        for each in named:
            path, *names = each.split("::")
            node: ast.AST = ast.parse((ROOT / path).read_text())
            for name in names:
                found = [
                    inner
                    for inner in ast.iter_child_nodes(node)
                    if getattr(inner, "name", None) == name
                ]
                assert len(found) == 1, f"docs/guarantees.md names {each}"
                node = found[0]


def test_links_between_pages_lead_somewhere() -> None:
    """Every relative link of the README and the docs points to a file."""
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        prose = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)#:]+)\)", prose):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_readme_is_at_most_two_screens() -> None:
    """One promise, ten lines, two commands; the rest stands in the docs."""
    assert len((ROOT / "README.md").read_text().splitlines()) <= 80


def test_no_module_imports_the_packages_face() -> None:
    """Inside the package, imports name modules: the face is for users."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert not (node.level == 0 and (node.module or "").startswith("async_signals"))
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("async_signals") for alias in node.names)
