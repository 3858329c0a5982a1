"""What the commands share."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from api import config_text
from api.settings import Settings
from domain.errors import InvalidInput
from eventstore.engine import Ledger, open_ledger
from migrations import run as migrations

Run = Callable[[Settings, argparse.Namespace], int]


class Add(Protocol):
    """Adds a command to the command line; gives its parser, for its options."""

    def __call__(self, name: str, run: Run | None, help_text: str) -> argparse.ArgumentParser: ...


class Refused(Exception):
    """The command cannot be carried out; the message is what the user reads."""


def database(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--database-url", help="sqlite:///nudgeledger.db")


def say(line: str) -> None:
    sys.stdout.write(line + "\n")


@contextlib.asynccontextmanager
async def ledger_of(settings: Settings, *, upgrade: bool = True) -> AsyncIterator[Ledger]:
    """The ledger of the settings, its schema brought to head; `upgrade` False: as it is."""
    ledger = open_ledger(settings.database_url)
    try:
        if upgrade:
            await migrations.upgrade(ledger)
        yield ledger
    finally:
        await ledger.close()


@contextlib.asynccontextmanager
async def existing_ledger(settings: Settings) -> AsyncIterator[Ledger]:
    """The ledger, as it is. Raises Refused where there is none, or where its schema is not the newest:
    who looks into a ledger must not make one."""
    async with ledger_of(settings, upgrade=False) as ledger:
        if ledger.path is not None and not _is_there(ledger.path):
            raise Refused(f"no ledger at {ledger.path}")
        revision = await migrations.current(ledger)
        if revision is None:
            raise Refused("this database holds no ledger")
        if revision != migrations.head():
            raise Refused("the database's schema is not the newest: run `nudgeledger migrate` first")
        yield ledger


def _is_there(path: str) -> bool:
    return Path(path).exists()


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}") from None


def read_config(path: Path) -> Any:
    with faults_of(path):
        return config_text.parse(read(path), is_json=path.suffix == ".json")


@contextlib.contextmanager
def faults_of(path: Path) -> Iterator[None]:
    """Faults inside are this file's."""
    try:
        yield
    except InvalidInput as error:
        error.file = str(path)  # type: ignore[attr-defined]
        raise
