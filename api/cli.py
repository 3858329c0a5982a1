"""The command line. Bad input: one line on standard error, exit 2, nothing half-written."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib
import ipaddress
import os
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import sqlalchemy as sa

from api import credentials, log
from api.commands import auditing, backtesting, rebuilding, relabelling, replaying, transfer, verifying
from api.commands.common import Refused, Run, database, faults_of, ledger_of, read_config, say
from api.restarting import HANDED_OVER, Restarting
from api.settings import Settings
from domain import codec, config_parse
from domain.errors import InvalidInput, NudgeledgerError
from eventstore import reader
from migrations import run as migrations

MODULES = (backtesting, auditing, replaying, rebuilding, relabelling, verifying, transfer)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; its exit code: 0 done, 1 a check failed, 2 bad input."""
    options = _parser().parse_args(arguments)
    try:
        _check_packages()
        settings = _settings(options)
        log.configure(settings.log)
        with contextlib.nullcontext() if options.run in (_serve, _demo) else _ending_at_once():
            result: int = options.run(settings, options)
        sys.stdout.flush()
        return result
    except InvalidInput as error:
        name = getattr(error, "file", None)
        for fault in error.faults:
            where = ": ".join(part for part in (name, fault.path) if part)
            print(f"nudgeledger: {where + ': ' if where else ''}{fault.detail}", file=sys.stderr)  # noqa: T201
        return 2
    except (Refused, NudgeledgerError, ValueError) as error:
        print(f"nudgeledger: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except (sa.exc.DBAPIError, asyncpg.PostgresError) as error:  # no such database, a file that is none
        print(f"nudgeledger: the database: {getattr(error, 'orig', error)}", file=sys.stderr)  # noqa: T201
        return 2
    except BrokenPipeError:  # whoever read standard output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        print(f"nudgeledger: {where}{error.strerror or error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 130


@contextlib.contextmanager
def _ending_at_once() -> Iterator[None]:
    """Ctrl-C ends a command as a kill would, which each of them bears. To cancel its tasks could hang with
    the writer's lock held: asyncpg does not come back from an `executemany` cancelled between two chunks."""
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(130))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _check_packages() -> None:
    """Our packages have everyday names: refuse to run on somebody else's."""
    root = Path(__file__).resolve().parents[1]
    for name in ("domain", "eventstore", "projections", "migrations", "api"):
        found = importlib.import_module(name).__file__
        if found is None or Path(found).resolve().parents[1] != root:
            raise Refused(
                f"the package {name!r} comes from {found}, not from {root}: run in an environment of its own"
            )


def _settings(options: argparse.Namespace) -> Settings:
    given = {
        name: value
        for name in ("host", "port", "database_url", "auth")
        if (value := getattr(options, name, None)) is not None
    }
    return Settings(**given)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nudgeledger",
        description="Decides when a product copilot should reach out to a user, and can always say why.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, run: Run | None, help_text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help_text, description=help_text)
        made.set_defaults(run=run)
        return made

    for name, run, help_text in (
        ("serve", _serve, "run the service"),
        ("demo", _demo, "run the service with the demo product"),
    ):
        serving = command(name, run, help_text)
        serving.add_argument("--host", help="address to bind (127.0.0.1)")
        serving.add_argument("--port", type=int, help="port to bind (8090)")
        serving.add_argument("--auth", choices=("on", "off"), help="authentication (off)")
        database(serving)
    database(command("migrate", _migrate, "bring the database's schema to the newest version"))

    product = command("product", None, "manage products").add_subparsers(required=True, metavar="ACTION")
    adding = product.add_parser("add", help="add a product and print its secrets, once")
    adding.set_defaults(run=_product_add)
    adding.add_argument("id")
    adding.add_argument("--config", type=Path, help="its config, YAML or JSON")
    database(adding)

    for module in MODULES:
        module.add(command)
    return parser


# --- serve -------------------------------------------------------------------------------------------


def _serve(settings: Settings, options: argparse.Namespace) -> int:
    return _run_server(settings, demo=False)


def _demo(settings: Settings, options: argparse.Namespace) -> int:
    return _run_server(settings, demo=True)


def _run_server(settings: Settings, *, demo: bool) -> int:
    import uvicorn

    from api import app, hot  # FastAPI takes a while to import; other commands do without

    if settings.auth == "on":
        raise Refused("authentication is not built yet; start with --auth off, on a loopback address")
    if not _is_loopback(settings.host):
        raise Refused(
            f"refusing to bind {settings.host}: without authentication anybody who reaches this address "
            "could read and write every product. Bind 127.0.0.1 or ::1"
        )
    asyncio.run(_check_ledger(settings))
    address = f"http://{_in_url(settings.host)}:{settings.port}"
    say(f"nudgeledger: authentication is off, so this listens on {settings.host} only")
    if demo:
        say(f"nudgeledger: open the demo at {address}/demo/projects")
    say(f"nudgeledger: API documentation at {address}/docs")
    sys.stdout.flush()
    application = app.build(settings, demo=demo)

    class Server(uvicorn.Server):
        """Ends the open streams first: they would keep the shutdown waiting."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            application.state.service.end_streams()
            await super().shutdown(sockets)

    config = uvicorn.Config(
        hot.Events(application),
        proxy_headers=False,
        host=settings.host,
        port=settings.port,
        access_log=False,
        log_level="warning",
        timeout_graceful_shutdown=5,
        server_header=False,
    )
    server = Server(config)
    listening = _listening(config, settings.stalled_s)
    restarting = Restarting(listening)
    restarting.install(server)
    server.run(sockets=[listening])
    restarting.carry_out()
    return 0 if server.started else 1


def _listening(config: Any, stalled_s: float) -> socket.socket:
    """The socket to serve on. Its connections end when the other side takes nothing for long."""
    try:
        bound: socket.socket = _handed_over() or config.bind_socket()
    except SystemExit:  # it has said why
        raise Refused(f"cannot listen on {config.host}, port {config.port}") from None
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(stalled_s * 1000))
    return bound


def _handed_over() -> socket.socket | None:
    """The listening socket of a supervisor that keeps it open while the service restarts (systemd's socket
    activation): who connects meanwhile waits instead of being refused. None where there is none."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or os.environ.get("LISTEN_FDS") != "1":
        return None
    given = socket.socket(fileno=HANDED_OVER)
    if given.family != socket.AF_UNIX and not _is_loopback(str(given.getsockname()[0])):
        raise Refused("the socket that was handed over is not on a loopback address")
    return given


async def _check_ledger(settings: Settings) -> None:
    """Say in one line what keeps the service from starting, before a server is up."""
    async with ledger_of(settings, upgrade=False) as ledger:
        if ledger.dialect == "sqlite":
            await migrations.upgrade(ledger)
        elif await migrations.current(ledger) != migrations.head():
            raise Refused("the database's schema is not the newest: run `nudgeledger migrate` first")
        async with ledger.reader() as conn:
            await reader.check_readable(conn, set(codec.KNOWN))


def _is_loopback(host: str) -> bool:
    try:
        found = {info[4][0] for info in socket.getaddrinfo(host, None)}
    except OSError:
        raise Refused(f"no such host: {host}") from None
    return all(ipaddress.ip_address(str(address).partition("%")[0]).is_loopback for address in found)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host


# --- the rest ----------------------------------------------------------------------------------------


def _migrate(settings: Settings, options: argparse.Namespace) -> int:
    async def run() -> None:
        async with ledger_of(settings):
            pass

    asyncio.run(run())
    say("nudgeledger: the schema is the newest")
    return 0


def _product_add(settings: Settings, options: argparse.Namespace) -> int:
    raw = None
    if options.config is not None:
        raw = read_config(options.config)
        with faults_of(options.config):
            config_parse.parse(raw)
    asyncio.run(_add_product(settings, options.id, raw))
    return 0


async def _add_product(settings: Settings, product: str, raw: Any) -> None:
    if raw is not None:
        parsed = config_parse.parse(raw)
        if parsed.product_id != product:
            raise Refused(f"the config's product_id is {parsed.product_id!r}, not {product!r}")
    else:
        config_parse.parse({"schema": 1, "product_id": product})
    made = credentials.make()
    async with ledger_of(settings) as ledger:
        async with ledger.transaction() as conn:
            if not await credentials.add(conn, product, made):
                raise Refused(f"product {product!r} exists already; its secrets are shown once only")
        if raw is not None:
            from api.service import Service

            service = Service(ledger, settings)
            await service.recorder.start()
            try:
                await service.put_config(product, raw)
            finally:
                await service.stop()
    say(f"product             {product}")
    say(f"server key          {made.server_key}")
    say(f"webhook secret      {made.webhook_secret}")
    say(f"browser-token secret {made.token_secret}")
    say("These are shown once. Keep them where your other secrets are.")


if __name__ == "__main__":
    sys.exit(main())
