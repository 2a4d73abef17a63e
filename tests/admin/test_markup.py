"""No inline script or style: the pages work under a strict Content-Security-Policy."""

from __future__ import annotations

import html.parser
import subprocess
import sys
from pathlib import Path

import pytest

import async_signals
from async_signals import operations
from async_signals.models import State
from async_signals.stats import Filter

from .conftest import LIST, THEME, action, add, page

pytestmark = pytest.mark.django_db
PACKAGE = Path(async_signals.__file__).parent


class Markup(html.parser.HTMLParser):
    """Collects what a strict policy forbids, and what is left open."""

    VOID = frozenset({"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "wbr"})

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "style" or (
            tag == "script" and "src" not in names and names.get("type") != "application/json"
        ):
            self.problems.append(f"inline <{tag}>")
        self.problems += [
            f"{tag} {name}" for name in names if name == "style" or name.startswith("on")
        ]
        self.problems += [
            f"{tag} {url}" for url in names.values() if str(url).startswith("javascript:")
        ]

    def handle_endtag(self, tag):
        if tag in self.VOID:
            return
        if not self.open or self.open.pop() != tag:
            self.problems.append(f"</{tag}> closes another element")


def problems_of(text: str) -> list[str]:
    markup = Markup()
    markup.feed(text)
    return markup.problems


def test_the_parser_finds_what_it_looks_for() -> None:
    """A page with all that is forbidden."""
    found = problems_of(
        '<p style="x" onclick="y"><script>z</script><style></style><a href="javascript:x"></b>'
    )

    assert len(found) == 6


@pytest.mark.skipif(bool(THEME), reason="the theme's own pages are the theme's")
def test_no_page_has_inline_script_or_style(ana) -> None:
    """Lists, pages, questions and forms, with all that they can show."""
    delivery = add(State.PENDING, attempts=3, instance_model="shop.Order", instance_pk="1")
    child = add(cause=delivery.pk)
    operation = operations.replay(Filter(ids=(str(child.pk),)), by="ana", reason="x")
    operations.pause("shop.receive", by="ana")
    root = "/admin/async_signals/"
    urls = [
        LIST, f"{LIST}?state=failed&q=receive", page(delivery), page(child),
        f"{LIST}{delivery.pk}/history/",
        f"{root}event/", f"{root}event/{delivery.event_id}/change/",
        f"{root}failuregroup/", f"{root}failuregroup/{'f' * 32}/change/",
        f"{root}operation/", f"{root}operation/{operation.pk}/change/",
        f"{root}pause/", f"{root}pause/add/", f"{root}pause/shop.receive/change/",
    ]  # fmt: skip

    for url in urls:
        response = ana.get(url)
        assert (url, response.status_code) == (url, 200)
        assert (url, problems_of(response.content.decode())) == (url, [])
    for verb in ("retry", "discard", "replay"):
        assert problems_of(action(ana, verb, delivery, child).content.decode()) == []


def test_templates_have_none_either() -> None:
    """Under a theme, too, nothing of ours is inline, and nothing is marked as safe."""
    templates = list((PACKAGE / "templates").rglob("*.html"))
    assert templates
    for template in templates:
        text = template.read_text()
        for forbidden in ("style=", "<script", "<style", " on", "|safe", "autoescape off", "http"):
            words = [f" {word}" for word in ("onclick=", "onload=", "onchange=", "onsubmit=")]
            assert not any(each in text for each in (words if forbidden == " on" else [forbidden]))
    for module in (PACKAGE / "admin").glob("*.py"):
        assert "mark_safe" not in module.read_text()


def test_nothing_else_imports_the_admin() -> None:
    """A site without the admin does not load it."""
    program = (
        "import sys, django\n"
        "from django.conf import settings\n"
        "settings.configure(INSTALLED_APPS=['django.contrib.contenttypes', 'async_signals'],"
        " CELERY_BROKER_URL='memory://', USE_TZ=True)\n"
        "django.setup()\n"
        "import async_signals.stats, async_signals.operations, async_signals.relay\n"
        "import async_signals.tasks, async_signals.management\n"
        "print([name for name in sys.modules if '.admin' in name])"
    )

    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"
