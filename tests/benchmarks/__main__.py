"""`python -m tests.benchmarks [NAME …]`: every benchmark, or those named."""

from __future__ import annotations

import argparse
from dataclasses import replace
from importlib import import_module

from tests.benchmarks.options import Options

NAMES = ("ingest", "sources", "latency", "replay", "backtest", "explain", "growth", "idle")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--seconds", type=float, help="of each case (10)")
    parser.add_argument("--database-url", help="beside which to make scratch databases")
    parser.add_argument("--events", type=int, help="to replay and to backtest (200000)")
    parser.add_argument("--sessions", type=int, help="idle ones (20000)")
    given = vars(parser.parse_args())
    names = given.pop("names") or list(NAMES)
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(NAMES)}")
    options = replace(Options(), **{name: value for name, value in given.items() if value is not None})
    for name in names:
        import_module(f"tests.benchmarks.{name}").run(options)


if __name__ == "__main__":
    main()
