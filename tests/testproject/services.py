"""Which real servers are at hand; looked up once, before Django reads the settings."""

from __future__ import annotations

import os
import socket

PORTS = {"redis": 6379, "rabbitmq": 5672, "postgresql": 5432, "mariadb": 3306}


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def port_of(service: str) -> int:
    return int(os.environ.get(f"ASYNC_SIGNALS_TEST_{service.upper()}_PORT", PORTS[service]))


FOUND = frozenset(service for service in PORTS if is_listening(port_of(service)))
