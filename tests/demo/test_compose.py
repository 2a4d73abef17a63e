"""docker-compose.yml fits the project; without an engine, by reading it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys

import pytest
import yaml

from demo_project.bootstrap import CHECKOUT

from .conftest import PATIENCE, SITE

COMPOSE = yaml.safe_load((CHECKOUT / "docker-compose.yml").read_text("utf-8"))
SERVICES = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
DOCKERFILE = (CHECKOUT / "Dockerfile").read_text("utf-8")


def test_all_parts_are_there():
    assert set(SERVICES) == {"redis", "db", "mail", "migrate", "web", "worker", "beat"}
    assert set(OURS) == {"migrate", "web", "worker", "beat"}
    assert "version" not in COMPOSE


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_that_stays_tells_its_health(name):
    if name == "migrate":
        assert SERVICES[name]["restart"] == "no"
    else:
        assert SERVICES[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


@pytest.mark.parametrize("name", SERVICES)
def test_it_waits_for_what_exists_and_can_become_true(name):
    for target, how in SERVICES[name].get("depends_on", {}).items():
        if how["condition"] == "service_healthy":
            assert "healthcheck" in SERVICES[target]
        else:
            assert how["condition"] == "service_completed_successfully"
            assert SERVICES[target]["restart"] == "no"


def test_nothing_is_reached_from_other_machines():
    for service in SERVICES.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))


def test_all_that_is_interpolated_has_a_default():
    text = (CHECKOUT / "docker-compose.yml").read_text("utf-8")
    used = re.findall(r"(?<!\$)\$\{?(\w+)(\S?)", text)

    assert used
    assert all(sign == ":" for _, sign in used), used


def test_volumes_are_declared():
    for service in SERVICES.values():
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in COMPOSE["volumes"]


def test_the_site_reads_every_variable_that_it_is_given():
    source = (SITE / "core" / "settings.py").read_text("utf-8")
    read = set(re.findall(r'variable\("(\w+)"', source))

    for service in OURS.values():
        assert set(service["environment"]) <= read


def test_the_addresses_name_services():
    environment = SERVICES["web"]["environment"]
    for name in ("BROKER_URL", "DATABASE_URL"):
        host = re.search(r"(?://|@)([\w-]+):\d+/", environment[name])[1]
        assert host in SERVICES
    assert environment["EMAIL_HOST"] in SERVICES


def test_the_settings_take_what_compose_sets(manage):
    environment = {
        name: re.sub(r"\$\{\w+:-(.*?)\}", r"\1", value)
        for name, value in SERVICES["web"]["environment"].items()
    }
    code = (
        "from django.conf import settings as s; d = s.DATABASES['default'];"
        "print(s.CELERY_BROKER_URL, d['ENGINE'], d['HOST'], d['NAME'], d['USER'], d['PASSWORD'],"
        " s.DELIVERING_BACKEND, s.MAIL_SERVER['host'], s.MAIL_SERVER['port'], s.SECRET_KEY)"
    )
    done = manage("shell", "--no-imports", "-c", code, **environment)

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [
        "redis://redis:6379/0",
        "django.db.backends.postgresql",
        "db",
        "movies",
        "movies",
        "movies",
        "django.core.mail.backends.smtp.EmailBackend",
        "mail",
        "1025",
        "only-for-your-own-machine",
    ]


@pytest.mark.parametrize("name", OURS)
def test_its_command_and_the_options_of_it_exist(name, environment):
    command = shlex.split(OURS[name]["command"])
    if command[0] == "python":
        assert command[1] == "manage.py"
        program, options = [SITE / "manage.py", command[2]], command[3:]
    else:
        assert command[:3] == ["celery", "--app", "core"]
        program, options = ["-m", *command[:4]], command[4:]

    done = subprocess.run(
        [sys.executable, *program, "--help"],
        cwd=SITE,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )

    assert done.returncode == 0, done.stderr
    for option in options:
        assert not option.startswith("-") or option in done.stdout


def test_the_image_has_what_the_commands_need():
    assert 'pip install --no-cache-dir ".[demo]"' in DOCKERFILE
    assert "WORKDIR /site/demo_project" in DOCKERFILE
    copied = {
        source
        for line in DOCKERFILE.splitlines()
        if line.startswith("COPY")
        for source in line.split()[1:-1]
    }
    sent = (CHECKOUT / ".dockerignore").read_text("utf-8").splitlines()
    for source in copied:
        assert (CHECKOUT / source).exists()
        assert f"!{source}" in sent
