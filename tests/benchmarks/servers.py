"""Servers as processes of their own, pinned to one core, and the load that is put on them."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.benchmarks import configs, machine

ROOT = Path(__file__).parents[2]
SERVER, GENERATOR = 0, 1  # the cores


class Server(NamedTuple):
    port: int
    process: subprocess.Popen[bytes]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def nudgeledger(url: str, config: dict[str, Any], **environment: str) -> Iterator[Server]:
    """`nudgeledger serve` over a database, with one product under this config."""
    port = free_port()
    command = [sys.executable, "-m", "api.cli", "serve", "--port", str(port), "--database-url", url]
    with _running(command, port, environment) as server:
        call(port, "PUT", f"/v1/products/{configs.PRODUCT}/config", config)
        yield server


@contextlib.contextmanager
def uvicorn(application: str, **environment: str) -> Iterator[Server]:
    """Any other ASGI application on the same server stack."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", application, "--port", str(port), "--no-access-log",
               "--log-level", "warning", "--no-server-header"]  # fmt: skip
    with _running(command, port, environment) as server:
        yield server


@contextlib.contextmanager
def _running(command: list[str], port: int, environment: Mapping[str, str]) -> Iterator[Server]:
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **environment}, stdout=output, stderr=output
        )
        try:
            machine.pin(process, SERVER)
            _wait(port, process, output)
            yield Server(port, process)
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(port: int, process: subprocess.Popen[bytes], output: Any) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            output.seek(0)
            raise RuntimeError(f"the server ended: {output.read()[-2000:].decode()}")
        with contextlib.suppress(OSError):
            call(port, "GET", "/readyz")
            return
        time.sleep(0.05)
    raise RuntimeError("the server does not answer")


def call(port: int, method: str, path: str, body: Any = None) -> bytes:
    """One request; raises OSError where it is refused."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"}, method=method
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        answer: bytes = response.read()
        return answer


def start(module: str, *arguments: object) -> subprocess.Popen[bytes]:
    """A generator, on the other core."""
    command = [sys.executable, "-m", f"tests.benchmarks.{module}", *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE)
    machine.pin(process, GENERATOR)
    return process


def lines(process: subprocess.Popen[bytes]) -> Iterator[dict[str, float]]:
    """What a generator says, line by line; raises RuntimeError where it failed."""
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            yield json.loads(line)
    if process.wait():
        raise RuntimeError("the generator failed")


def load(
    server: Server, connections: int, seconds: float, batch: int, rate: float = 0.0, ids: str = "ordered"
) -> dict[str, float]:
    """Put a load on a server; what the generator measured, and what of its core the server used."""
    said = lines(start("load", server.port, connections, seconds, batch, rate, ids))
    warm = next(said)
    before = machine.cpu_seconds(server.process.pid)
    found = next(said)
    used = machine.cpu_seconds(server.process.pid) - before
    for _ in said:
        pass
    return (
        warm
        | found
        | {
            "server_cpu": used / found["seconds"],
            "cpu_us": used / max(1.0, found["requests"] * batch) * 1e6,
        }
    )


def only(process: subprocess.Popen[bytes]) -> dict[str, float]:
    """The one line that a generator says."""
    (found,) = lines(process)
    return found
