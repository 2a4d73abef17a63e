"""Servers of a test's own, which it may kill."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import psutil
import pytest
import redis

from .waiting import wait_until

__all__ = ["PrivatePostgreSQL", "PrivateRabbitMQ", "PrivateRedis", "free_port"]


class PrivateRedis:
    """A redis-server of this test's own, which keeps nothing on disk."""

    def __init__(self, folder, *options: str, port: int | None = None) -> None:
        self.port = port or free_port()
        self._command = [
            *("redis-server", "--bind", "127.0.0.1", "--port", str(self.port)),
            *("--save", "", "--appendonly", "no", "--dir", str(folder), *options),
        ]
        self.client = redis.Redis(port=self.port, db=9)
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

        def answers() -> bool:
            with contextlib.suppress(redis.ConnectionError):
                return self.client.ping()
            return False

        wait_until(answers, what="the start of redis-server")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)
        self.client.connection_pool.disconnect()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class PrivateRabbitMQ:
    """A node of RabbitMQ of this test's own, which listens for clients only."""

    def __init__(self) -> None:
        if shutil.which("rabbitmq-server") is None:
            pytest.skip("no rabbitmq-server to start")
        self._folder = Path(tempfile.mkdtemp(prefix="faults-rabbitmq-"))
        self.port = free_port()
        (self._folder / "enabled_plugins").write_text("[].")
        if os.getuid() == 0:  # Who does not run it, either.
            shutil.chown(self._folder, "rabbitmq", "rabbitmq")
        self._env = {
            **os.environ,
            "HOME": str(self._folder),  # Where its cookie is.
            "RABBITMQ_NODENAME": f"faults-{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(self._folder / "data"),
            "RABBITMQ_LOG_BASE": str(self._folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self._folder / "enabled_plugins"),
            "RABBITMQ_CONFIG_FILE": str(self._folder / "none"),
            "RABBITMQ_CONF_ENV_FILE": str(self._folder / "none"),
        }
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def start(self, *, wait: bool = True) -> None:
        """Start it, for the first time or again; its clients can tell when it is there."""
        self._process = subprocess.Popen(
            ["rabbitmq-server"],
            cwd=self._folder,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        if wait:
            self.wait()

    def wait(self) -> None:
        """Return when it takes connections."""
        wait_until(lambda: self.is_up, timeout=60, what="the start of RabbitMQ")

    @property
    def is_up(self) -> bool:
        return is_listening(self.port)

    @property
    def is_alive(self) -> bool:
        """Whether it is up, or starts."""
        return self._process.poll() is None

    def control(self, *command: str) -> None:
        """Run ``rabbitmqctl`` on this node."""
        node = ["rabbitmqctl", "-q", "-n", self._env["RABBITMQ_NODENAME"]]
        subprocess.run([*node, *command], cwd=self._folder, env=self._env, check=True, timeout=60)

    def kill(self) -> None:
        """End it as a power cut would; what it has on disk stays."""
        with contextlib.suppress(psutil.NoSuchProcess):
            # The node is a grandchild, and listens for a moment after its parents have ended.
            script = psutil.Process(self._process.pid)
            family = [script, *script.children(recursive=True)]
            for each in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()
            psutil.wait_procs(family, timeout=10)
        self._process.wait(10)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class PrivatePostgreSQL:
    """A cluster of PostgreSQL of this test's own, which trusts whoever asks from this host."""

    def __init__(self, port: int | None = None) -> None:
        if shutil.which("initdb") is None:
            pytest.skip("no initdb to make a cluster with")
        self._folder = Path(tempfile.mkdtemp(prefix="faults-postgresql-"))
        self.port = port or free_port()
        if os.getuid() == 0:  # Who may not run it.
            shutil.chown(self._folder, "postgres", "postgres")
        try:
            self._run("initdb", "-U", "postgres", "-A", "trust", "--no-sync", "-D", self._data)
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def _data(self) -> str:
        return str(self._folder / "data")

    def _run(self, *command: str) -> None:
        user = "postgres" if os.getuid() == 0 else None
        subprocess.run(
            command,
            check=True,
            timeout=60,
            user=user,
            cwd=self._folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def start(self) -> None:
        options = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories=''"
        log = str(self._folder / "log")
        self._run("pg_ctl", "start", "-w", "-D", self._data, "-o", options, "-l", log)

    def stop(self, how: str = "immediate") -> None:
        """End it: "immediate" is as a crash, of which it recovers when it is started."""
        self._run("pg_ctl", "stop", "-w", "-D", self._data, "-m", how)

    def close(self) -> None:
        with contextlib.suppress(subprocess.CalledProcessError):  # It may be stopped.
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
