"""Prints what a benchmark found: figures, and how they stand to each other within the same run."""

from __future__ import annotations

from collections.abc import Mapping

from tests.benchmarks import machine


class Report:
    """One benchmark's figures. Ratios are between figures of one report, so of one machine and hour."""

    def __init__(self, title: str, *notes: str) -> None:
        self.figures: dict[str, float] = {}
        print(f"\n== {title}")
        for line in (*machine.describe(), *notes):
            print(f"   {line}", flush=True)

    def section(self, title: str) -> None:
        print(f"\n   {title}   (load {machine.load()})", flush=True)

    def figure(self, name: str, value: float, unit: str = "/s", note: str = "") -> float:
        """A figure under its name."""
        self.figures[name] = value
        print(f"   {name:<62} {_number(value):>11} {unit:<5} {note}".rstrip(), flush=True)
        return value

    def ratio(self, name: str, over: str, aim: str = "") -> float:
        """Prints how many times the second figure the first one is; 0 where there is nothing to divide by."""
        above, below = self.figures[name], self.figures[over]
        value = above / below if below else 0.0
        print(f"   {name} = {_number(value)} × {over}{f'   [{aim}]' if aim else ''}", flush=True)
        return value

    def published(self, name: str, value: float) -> None:
        """A figure that others published: for ratios only, measured on another machine."""
        self.figures[name] = value

    def line(self, text: str) -> None:
        print(f"   {text}", flush=True)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:,.2f}"


def spread(found: Mapping[str, float]) -> str:
    """Percentiles as the generator measured them."""
    return (
        f"p50 {found['p50_ms']:.2f} ms, p90 {found['p90_ms']:.2f} ms, "
        f"p99 {found['p99_ms']:.2f} ms, max {found['max_ms']:.2f} ms"
    )


def percentiles(took: list[float]) -> dict[str, float]:
    """Of durations in seconds, as milliseconds; zeros where there are none."""
    took = sorted(took) or [0.0]
    at = [took[min(len(took) - 1, int(len(took) * share))] * 1000 for share in (0.5, 0.9, 0.99)]
    return {"p50_ms": at[0], "p90_ms": at[1], "p99_ms": at[2], "max_ms": took[-1] * 1000}
