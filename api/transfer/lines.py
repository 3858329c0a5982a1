"""Files of lines: each line's faults named with its number."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import NoReturn

from domain.errors import Fault, InvalidInput


def numbered(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """Every line that is not blank, with its number from 1."""
    for number, raw in enumerate(lines, 1):
        text = raw.strip()
        if text:
            yield number, text


@contextlib.contextmanager
def at_line(number: int) -> Iterator[None]:
    """Faults inside are this line's."""
    try:
        yield
    except InvalidInput as error:
        raise InvalidInput([_placed(number, fault) for fault in error.faults]) from None


def refuse(number: int, path: str, detail: str) -> NoReturn:
    raise InvalidInput([_placed(number, Fault(path, detail))])


def _placed(number: int, fault: Fault) -> Fault:
    path = f"line {number}: {fault.path}" if fault.path else f"line {number}"
    # The parser saw one line only, its first: the number that counts is the file's.
    return Fault(path, fault.detail.replace("malformed JSON at line 1 column", "malformed JSON at column"))
