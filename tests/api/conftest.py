"""Servers for the tests: one of each database for all tests, each test with a product of its own."""

from __future__ import annotations

import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.api import serving
from tests.conftest import _drop, _scratch, _url

Launch = Callable[..., serving.Server]


@pytest.fixture(scope="session")
def sqlite_server(
    sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[serving.Server]:
    folder = tmp_path_factory.mktemp("sqlite-server")
    shutil.copy(sqlite_template, folder / "ledger.db")
    server = serving.Server(
        f"sqlite:///{folder / 'ledger.db'}", folder, keep_alive_s="0.5", vendor_secret=serving.SECRET
    )
    yield server.start()
    server.close()


@pytest.fixture(scope="session")
def postgres_server(
    postgres_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[serving.Server]:
    name, folder = _scratch(postgres_template), tmp_path_factory.mktemp("postgres-server")
    server = serving.Server(_url(name), folder, keep_alive_s="0.5", vendor_secret=serving.SECRET)
    yield server.start()
    server.close()
    _drop(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest) -> serving.Server:
    """A running server, once on each database. Other tests use it too: take a product of your own."""
    name = "sqlite_server" if request.param == "sqlite" else "postgres_server"
    found: serving.Server = request.getfixturevalue(name)
    return found


def _one(request: pytest.FixtureRequest) -> str:
    """One of the two databases, always the same for a test: half of a module's tests run on each."""
    name = getattr(request.node, "originalname", None) or request.node.name
    return ("sqlite", "postgresql")[zlib.crc32(name.encode()) % 2]


@pytest.fixture
def one_url(request: pytest.FixtureRequest) -> str:
    """For tests that start processes, or talk with a vendor, and ask nothing of the store itself."""
    url: str = request.getfixturevalue("sqlite_url" if _one(request) == "sqlite" else "postgres_url")
    return url


@pytest.fixture
def one_server(request: pytest.FixtureRequest) -> serving.Server:
    name = "sqlite_server" if _one(request) == "sqlite" else "postgres_server"
    found: serving.Server = request.getfixturevalue(name)
    return found


@pytest.fixture
def product(request: pytest.FixtureRequest) -> str:
    """A product with three saves as its trigger, on the test's server."""
    names = request.fixturenames
    server: serving.Server = request.getfixturevalue("server" if "server" in names else "sqlite_server")
    name = serving.product_id()
    server.put(serving.config(name))
    return name


@pytest.fixture
def launch(tmp_path: Path) -> Iterator[Launch]:
    """Starts servers of the test's own: `launch(database_url, **settings)`."""
    started: list[serving.Server] = []

    def start(database_url: str, **settings: str) -> serving.Server:
        server = serving.Server(database_url, tmp_path, **settings)
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.close()
