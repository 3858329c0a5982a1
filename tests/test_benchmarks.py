"""Each benchmark still runs, on tiny sizes. No figure is asserted: other work shares the machine."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import NAMES
from tests.benchmarks.options import Options

TINY = {"seconds": 0.2, "connections": 4, "streams": 4, "probes_per_s": 20.0, "events": 600, "sessions": 250,
        "idle_seconds": 0.2, "quick": True}  # fmt: skip

# What each must have measured: a figure above nothing.
FIGURES = {
    "ingest": ("nudgeledger, SQLite, 10 a request", "nudgeledger, SQLite, 1 a request",
               "640 rows a transaction", "parsing only, 10 a request", "recorder, 10 events a call",
               "FastAPI + eventsourcing, 10 a request"),
    "sources": ("posthog /e/, gzip, 10 a request, SQLite", "segment /v1/batch, 10 a request, SQLite",
                "amplitude /2/httpapi, 10 a request, SQLite", "cloudevents, 10 a request, SQLite",
                "posthog webhook, 1 a request, SQLite", "fullstory /ingest, 1 a request, SQLite"),
    "latency": ("greatest load, SQLite", "nudge, SQLite, half load, p50", "nudge, SQLite, half load, p99"),
    "replay": ("rows read", "read, decoded and folded", "nudgeledger replay", "aggregates rebuilt"),
    "backtest": ("lines parsed as JSON", "nudgeledger backtest, start to end"),
    "explain": ("rows read and decoded, nothing else", "a recorded decision, p50", "why not, now, p50",
                "why not, in the middle, p50"),
    "growth": ("bytes an event", "a recorded decision, p50", "nudgeledger replay --processes 1",
               "nudgeledger verify", "nudgeledger rebuild --dry-run"),
    "idle": ("new sessions", "memory a session, 250 kept"),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_runs_and_prints_figures_ratios_and_its_machine(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = Options(database_url=f"sqlite:///{tmp_path}/x.db", **TINY)
    import_module(f"tests.benchmarks.{name}").run(options)
    said = capsys.readouterr().out
    for figure in FIGURES[name]:
        found = re.search(rf"{re.escape(figure)}\s+([\d.,]+) ", said)
        assert found is not None, f"{figure} is missing in:\n{said}"
        assert float(found[1].replace(",", "")) > 0, figure
    assert "machine   " in said
    assert "python    " in said
    assert re.search(r" = [\d.,]+ × ", said), "no ratio"
    if name == "latency":
        assert re.findall(r"probes, (\d+) without a nudge", said) == ["0", "0"]
    if name == "replay":
        assert " 0 diverge" in said
