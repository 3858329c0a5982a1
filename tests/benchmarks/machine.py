"""What a benchmark runs on, and what its processes used of it."""

from __future__ import annotations

import contextlib
import os
import platform
import sqlite3
import subprocess
from importlib import metadata
from pathlib import Path

PACKAGES = ("uvicorn", "uvloop", "httptools", "fastapi", "orjson", "sqlalchemy", "aiosqlite", "asyncpg",
            "transitions", "eventsourcing")  # fmt: skip


def describe() -> list[str]:
    """The lines at the head of every report."""
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    pinned = "server on one core, generator on another" if len(cores()) > 1 else "one core for everything"
    python = f"{platform.python_version()} ({platform.python_compiler()})"
    return [
        f"machine   {_cpu()}, {os.cpu_count()} cores ({pinned}), {platform.system()} {platform.release()}",
        f"python    {python}, SQLite {sqlite3.sqlite_version}",
        f"packages  {versions}",
        f"load      {load()}",
    ]


def load() -> str:
    """The machine's load average: with other work beside it a figure says little, a ratio more."""
    if not hasattr(os, "getloadavg"):
        return "unknown"
    one, five, _ = os.getloadavg()
    return f"average {one:.2f} over 1, {five:.2f} over 5 minutes"


def _cpu() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def cores() -> list[int]:
    """The cores that this process may use; empty where the system does not say."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def pin(process: subprocess.Popen[bytes], core: int) -> None:
    """Keep a process, and every thread that it starts from now on, on the `core`-th core we may use."""
    mine = cores()
    if len(mine) > 1:
        os.sched_setaffinity(process.pid, {mine[core % len(mine)]})


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far; 0 where /proc does not tell."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def resident(pid: int) -> int:
    """Resident memory of a process in bytes, file mappings left out; 0 where /proc does not tell."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return 0
