"""Events a second of each path that sources have, beside the native one: equal clicks, ten triggers.

Measured: `nudgeledger serve`, a process on one core, under closed-loop keep-alive connections from another
core. The paths take turns, so that what else the machine does falls on all of them. A figure counts what the
ledger holds afterwards, by the service's own metric, not what was sent.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import orjson
import uvloop

from tests.benchmarks import configs, databases, machine, servers
from tests.benchmarks.load import PAGES, TITLES, Answers, connect, ordered_ids
from tests.benchmarks.options import Options
from tests.benchmarks.report import Report

TURNS = 3
BATCH = 10
CHAIN = (
    'button.btn:attr__class="btn"attr__data-attr="save"nth-child="5"nth-of-type="1"text="{}";'
    'form:attr__id="edit"attr_id="edit"nth-child="2"nth-of-type="1";main:nth-child="2"nth-of-type="1"'
)
NATIVE, NATIVE_ONE = "native, 10 a request", "native, 1 a request"


class Click(NamedTuple):
    """What every path tells in its own words."""

    id: str
    session: str
    user: str
    at: float  # UNIX seconds
    title: str
    url: str

    @property
    def instant(self) -> str:
        whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(self.at))
        return f"{whole}.{int(self.at % 1 * 1000):03d}Z"


class Way(NamedTuple):
    """A path, and the body that it takes."""

    path: str
    body: Callable[[list[Click]], bytes]
    batch: int = BATCH
    content_type: str = "application/json"


def _action(click: Click) -> dict[str, Any]:
    return {"type": "click", "title": click.title, "raw_url": click.url}


def _native(clicks: list[Click]) -> bytes:
    listed = [
        {"event_id": c.id, "type": "action", "session_id": c.session, "user_id": c.user,
         "occurred_at": c.instant, "data": _action(c)}
        for c in clicks
    ]  # fmt: skip
    return orjson.dumps({"events": listed})


def _posthog(clicks: list[Click]) -> bytes:
    listed = [
        {"uuid": c.id, "event": "$autocapture", "timestamp": c.instant,
         "properties": {"distinct_id": c.user, "$session_id": c.session, "$event_type": "click",
                        "$el_text": c.title, "$elements_chain": CHAIN.format(c.title),
                        "$current_url": c.url, "$lib": "web", "$lib_version": "1.449.2"}}
        for c in clicks
    ]  # fmt: skip
    return gzip.compress(orjson.dumps({"api_key": "k", "batch": listed, "sent_at": clicks[-1].instant}), 1)


def _webhook(clicks: list[Click]) -> bytes:
    (c,) = clicks
    return orjson.dumps(
        {"event": "$autocapture", "referrer": "$direct", "email": "", "timestamp": c.instant,
         "element_id": "edit", "event_type": "click", "session_id": c.session, "current_url": c.url,
         "distinct_id": c.user, "elements_chain": CHAIN.format(c.title).replace("data-attr", f"data-{c.id}"),
         "input_field_name": "", "link_destination": "", "button_or_link_text": c.title}
    )  # fmt: skip


def _segment(clicks: list[Click]) -> bytes:
    listed = [
        {"type": "track", "event": "Element Clicked", "messageId": c.id, "userId": c.user,
         "timestamp": c.instant, "context": {"page": {"url": c.url}, "sessionId": c.session},
         "properties": {"text": c.title}}
        for c in clicks
    ]  # fmt: skip
    return orjson.dumps({"batch": listed, "sentAt": clicks[-1].instant, "writeKey": "k"})


def _amplitude(clicks: list[Click]) -> bytes:
    listed = [
        {"event_type": "[Amplitude] Element Clicked", "insert_id": c.id, "user_id": c.user,
         "device_id": c.session, "session_id": 1_795_167_251_277, "time": int(c.at * 1000),
         "event_properties": {"[Amplitude] Page URL": c.url, "[Amplitude] Element Text": c.title,
                              "[Amplitude] Element Tag": "button"}}
        for c in clicks
    ]  # fmt: skip
    return orjson.dumps({"api_key": "k", "events": listed, "client_upload_time": clicks[-1].instant})


def _fullstory(clicks: list[Click]) -> bytes:
    (c,) = clicks
    return orjson.dumps(
        {"target_text": c.title, "element_name": "", "page_url": c.url, "timestamp": c.instant,
         "timestamp_unix": c.at, "session_replay_url": f"https://replay.example.com/{c.id}",
         "user_id": c.user, "user_email": "", "session_id": c.session}
    )  # fmt: skip


def _cloud(clicks: list[Click]) -> bytes:
    return orjson.dumps(
        [
            {"specversion": "1.0", "id": c.id, "source": "/app", "type": "action", "subject": c.session,
             "userid": c.user, "time": c.instant, "data": _action(c)}
            for c in clicks
        ]
    )  # fmt: skip


HERE: Final = configs.PRODUCT
WAYS: Final = {
    NATIVE: Way(f"/v1/products/{HERE}/events", _native),
    "posthog /e/, gzip, 10 a request": Way(f"/p/{HERE}/e/", _posthog, content_type="text/plain"),
    "segment /v1/batch, 10 a request": Way(f"/p/{HERE}/v1/batch", _segment),
    "amplitude /2/httpapi, 10 a request": Way(f"/p/{HERE}/2/httpapi", _amplitude),
    "cloudevents, 10 a request": Way(
        f"/v1/products/{HERE}/cloudevents", _cloud, content_type="application/cloudevents-batch+json"
    ),
    NATIVE_ONE: Way(f"/v1/products/{HERE}/events", _native, 1),
    "posthog webhook, 1 a request": Way(f"/webhook/{HERE}", _webhook, 1),
    "fullstory /ingest, 1 a request": Way(f"/ingest/{HERE}", _fullstory, 1),
}


def run(options: Options) -> None:
    kinds = databases.kinds(options)
    report = Report(
        "sources: events a second, durable, beside the native path", *(k.durability for k in kinds)
    )
    report.line(f"load      {options.connections} connections, closed loop, {options.seconds:g} s a path")
    for kind in kinds:
        report.section(kind.name)
        with databases.served(kind) as url, servers.nudgeledger(url, configs.ten_triggers()) as server:
            _measure(report, server, kind.name, options)


def _measure(report: Report, server: servers.Server, kind: str, options: Options) -> None:
    turns = 1 if options.quick else TURNS
    pid, each = server.process.pid, options.seconds / turns
    counts, took, used = dict.fromkeys(WAYS, 0.0), dict.fromkeys(WAYS, 0.0), dict.fromkeys(WAYS, 0.0)
    said = servers.lines(servers.start("sources", server.port, pid, options.connections, each, turns))
    for name, found in zip(list(WAYS) * turns, said, strict=True):
        counts[name] += found["stored"]
        took[name] += found["seconds"]
        used[name] += found["cpu"]
    for name in WAYS:
        note = f"{used[name] / max(1.0, counts[name]) * 1e6:.0f} µs of the server's core an event"
        report.figure(f"{name}, {kind}", counts[name] / took[name], note=note)
    report.line("ratios")
    for name, way in WAYS.items():
        if name not in (NATIVE, NATIVE_ONE):
            report.ratio(f"{name}, {kind}", f"{NATIVE if way.batch > 1 else NATIVE_ONE}, {kind}")


# --- the generator: a process of its own -----------------------------------------------------------


async def _ask(answers: Answers, index: int, way: Way, prefix: str, end: float) -> None:
    sent = 0
    while time.perf_counter() < end:
        name, at = f"{prefix}-{index}-{sent % 20}", time.time()
        ids = ordered_ids(sent * way.batch, way.batch)
        clicks = [
            Click(each, f"s{name}", f"u{name}", at + i / 1000 - 1, TITLES[(sent + i) % len(TITLES)],
                  f"https://app.example.com/{PAGES[sent // 20 % 5]}")
            for i, each in enumerate(ids)
        ]  # fmt: skip
        body = way.body(clicks)
        head = (
            f"POST {way.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {way.content_type}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        await answers.ask(head.encode() + body)
        sent += 1


async def _stored(answers: Answers) -> float:
    """Outside events that the server has stored."""
    said = (await answers.ask(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")).decode()
    line = next(line for line in said.splitlines() if 'events_total{origin="outside"}' in line)
    return float(line.split()[-1])


async def main(port: int, pid: int, connections: int, seconds: float, turns: int) -> None:
    """A line of JSON for each path of each turn; the sessions are met before."""
    listed = [await connect(port) for _ in range(connections)]
    for turn in range(turns + 1):
        for number, way in enumerate(WAYS.values()):
            stored, cpu, began = await _stored(listed[0]), machine.cpu_seconds(pid), time.perf_counter()
            end = began + (seconds if turn else min(0.5, seconds / 2))
            await asyncio.gather(*[_ask(each, i, way, str(number), end) for i, each in enumerate(listed)])
            found = {"seconds": time.perf_counter() - began, "cpu": machine.cpu_seconds(pid) - cpu}
            if turn:
                print(json.dumps(found | {"stored": await _stored(listed[0]) - stored}), flush=True)
    for answers in listed:
        answers.close()


if __name__ == "__main__":
    a = sys.argv
    uvloop.run(main(int(a[1]), int(a[2]), int(a[3]), float(a[4]), int(a[5])))
