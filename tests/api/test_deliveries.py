"""Deliveries by the webhook channel, against a real, small HTTP server that behaves as vendors do.

For channels without an idempotency key the webhook channel is told that its vendor knows none.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
import sqlalchemy as sa
from prometheus_client.parser import text_string_to_metric_families

from eventstore.engine import Ledger, open_ledger
from projections import tables
from tests.api import serving
from tests.api.conftest import Launch
from tests.api.serving import Server, command, config, fact, product_id, saves, trigger, until
from tests.api.vendor import Behaviour, Vendor, answers, endless, hangs_up, slowly, vendor
from tests.conftest import Run

FINAL = ("nudge_delivered", "delivery_failed", "delivery_unknown")


@pytest.fixture
def ledger_url(one_url: str) -> str:
    return one_url


def hooked(product: str, url: str | None, timeout_s: float = 1, **changes: Any) -> dict[str, Any]:
    """Three saves are answered with a nudge by the webhook channel."""
    hook = {"url": url, "timeout_s": timeout_s}
    more: dict[str, Any] = {"channels": {"webhook": hook}} if url else {}
    return config(product, triggers=[trigger(channels=["webhook"], **changes)], **more)


def offer(server: Server, product: str, session: str = "s", user: str = "u_1") -> str:
    (decision,) = server.post(product, *saves(session, user))["decisions"]
    assert decision["outcome"] == "offered"
    nudge_id: str = decision["nudge_id"]
    return nudge_id


def why(server: Server, product: str, nudge_id: str) -> dict[str, Any]:
    return server.get(f"/v1/products/{product}/decisions/{nudge_id}")


def steps(server: Server, product: str, nudge_id: str) -> list[dict[str, Any]]:
    return [{"type": d["type"], **d["data"]} for d in why(server, product, nudge_id)["delivery"]]


def settled(server: Server, product: str, nudge_id: str, within_s: float = 12) -> list[dict[str, Any]]:
    """The steps of a nudge, once the last of them is final."""

    def final() -> list[dict[str, Any]] | None:
        found = steps(server, product, nudge_id)
        done = found and found[-1]["type"] in FINAL and found[-1].get("retry_at") is None
        return found if done else None

    found: list[dict[str, Any]] = until(final, within_s)
    return found


def kinds(found: list[dict[str, Any]]) -> list[str]:
    return [step["type"].rpartition("_")[2] for step in found]


def causes(server: Server, product: str, nudge_id: str) -> dict[str, str]:
    return {c["cause"]: c["text"] for c in why(server, product, nudge_id)["causes"]}


# --- what is sent --------------------------------------------------------------------------------


def verified(secret: str, header: str, body: bytes, now: float) -> bool:
    """The README's recipe: whether a request comes from the service, and is not an old one sent again."""
    parts = dict(part.split("=", 1) for part in header.split(","))
    wanted = hmac.new(secret.encode(), parts["t"].encode() + b"." + body, hashlib.sha256).hexdigest()
    return hmac.compare_digest(wanted, parts["v1"]) and abs(now - int(parts["t"])) < 300


def test_a_nudge_is_posted_signed_once_and_told(postgres_url: str, launch: Launch) -> None:
    """The whole path; and the ledger that it leaves is clean for every command that reads it."""
    server = launch(postgres_url, hook_secret="s3cret")
    with vendor(answers(200, {"id": "msg_7"})) as hook:
        rules = hooked("acme", hook.url)
        rules["channels"]["webhook"]["secret"] = "env:NUDGELEDGER_HOOK_SECRET"
        server.put(rules)
        nudge = offer(server, "acme")
        found = settled(server, "acme", nudge)
    assert kinds(found) == ["attempted", "delivered"]
    assert (found[1]["channel"], found[1]["attempt"], found[1]["reference"]) == ("webhook", 1, "msg_7")
    (request,) = hook.requests
    assert verified("s3cret", request.headers["x-nudgeledger-signature"], request.body, time.time())
    assert not verified("other", request.headers["x-nudgeledger-signature"], request.body, time.time())
    assert request.headers["idempotency-key"] == nudge
    assert request.headers["user-agent"].startswith("nudgeledger/")
    said = request.json()
    assert (said["type"], said["nudge_id"], said["user_id"], said["attempt"]) == ("nudge", nudge, "u_1", 1)
    assert said["body"] == "Try bulk edit?" and said["options"] == [{"id": "yes", "label": "Yes"}]
    told = why(server, "acme", nudge)
    assert said["reason"] == told["summary"] and told["reproduced"] is True
    assert [step["text"] for step in told["trace"] if step["step"] == "delivery"] == [
        "Attempt 1 by webhook began.",
        "Delivered by webhook at attempt 1; there it is msg_7.",
    ]
    assert not {cause for cause in causes(server, "acme", nudge) if cause.startswith("delivery")}
    line = server.get("/v1/products/acme/sessions/s/timeline")["entries"]
    assert "“Saves one by one”: delivered by webhook at attempt 1; there it is msg_7" in [
        e["text"] for e in line
    ]
    server.stop()
    for arguments in (["replay"], ["verify"], ["rebuild", "--dry-run"]):
        done = command(*arguments, "--database-url", postgres_url)
        assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("would change 0 rows")


@contextlib.contextmanager
def vendors(each: Iterable[tuple[Behaviour, ...]]) -> Iterator[list[Vendor]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(vendor(*behaviours)) for behaviours in each]


CASES: dict[str, tuple[tuple[Behaviour, ...], list[str], int]] = {
    # what the vendor does: steps recorded, requests that it saw
    "fails once": ((answers(500), answers(200)), ["attempted", "failed", "attempted", "delivered"], 2),
    "asks to wait": (
        (answers(429, None, Retry_After="2"), answers(200)),
        ["attempted", "failed", "attempted", "delivered"],
        2,
    ),
    "hangs up, and had it": ((hangs_up, answers(409)), ["attempted", "unknown", "attempted", "delivered"], 2),
    "never answers": ((slowly(20),), ["attempted", "unknown"], 1),
    "says too much": ((endless,), ["attempted", "delivered"], 1),
    "redirects": ((answers(302, None, Location="http://127.0.0.1:1/"),), ["attempted", "failed"], 1),
    "refuses": ((answers(401),), ["attempted", "failed"], 1),
    "is gone": ((answers(410),), ["attempted", "failed"], 1),
}


def test_whatever_the_vendor_does_is_told_and_ends(server: Server) -> None:
    with vendors(behaviours for behaviours, _, _ in CASES.values()) as hooks:
        names = {case: product_id() for case in CASES}
        nudges: dict[str, str] = {}
        for (case, name), hook in zip(names.items(), hooks, strict=True):
            short = case == "never answers"
            server.put(hooked(name, hook.url, 0.5 if short else 5, expires_s=1 if short else 600))
            nudges[case] = offer(server, name)
        for (case, (_, expected, count)), hook in zip(CASES.items(), hooks, strict=True):
            found = settled(server, names[case], nudges[case])
            assert (kinds(found), len(hook.requests)) == (expected, count), (case, found)
            keys = {request.headers["idempotency-key"] for request in hook.requests}
            assert keys == {nudges[case]}
            if case == "asks to wait":
                assert 1.9 < hook.requests[1].at - hook.requests[0].at < 4
                assert (found[1]["status"], found[1]["retry_at"][-1]) == (429, "Z")
    told = causes(server, names["refuses"], nudges["refuses"])
    assert told["delivery_failed"] == "It was not delivered by webhook: the vendor refused it: 401."
    assert told["not_delivered"] == "It reached nobody: webhook is all it was to go by."
    told = causes(server, names["never answers"], nudges["never answers"])
    assert told["delivery_unknown"].startswith(
        "Whether it was delivered by webhook cannot be known: no answer"
    )
    assert not causes(server, names["fails once"], nudges["fails once"]).keys() & {"delivery_failed"}


def test_what_is_not_configured_or_not_set_is_named(server: Server) -> None:
    name, unset = product_id(), product_id()
    server.put(hooked(name, None))
    found = settled(server, name, nudge := offer(server, name))
    assert kinds(found) == ["failed"]
    assert found[0]["error"] == "the config in force has no channels.webhook"
    assert "Not tried by webhook: the config" in str(why(server, name, nudge)["trace"])
    rules = hooked(unset, "http://127.0.0.1:9/hook")
    rules["channels"]["webhook"]["secret"] = "env:NOT_SET_ANYWHERE"
    server.put(rules)
    found = settled(server, unset, offer(server, unset))
    assert kinds(found) == ["attempted", "failed"]
    assert "NOT_SET_ANYWHERE is not set" in found[1]["error"]


def test_a_nudge_that_was_closed_is_not_tried_again(server: Server) -> None:
    name = product_id()
    with vendor(answers(503, None, Retry_After="2")) as hook:
        server.put(hooked(name, hook.url))
        nudge = offer(server, name)
        until(lambda: kinds(steps(server, name, nudge)) == ["attempted", "failed"])
        server.post(name, fact("nudge_dismissed", "s", nudge_id=nudge))
        time.sleep(2.3)
        assert len(hook.requests) == 1
    assert causes(server, name, nudge)["delivery_dropped"] == "The nudge was closed before webhook had it."


# --- other vendors, ingest, stopping -------------------------------------------------------------


def test_a_slow_vendor_holds_up_neither_others_nor_ingest_nor_the_end(
    sqlite_url: str, launch: Launch, run: Run
) -> None:
    server = launch(sqlite_url)
    with vendor(slowly(30)) as slow, vendor() as quick:
        server.put(hooked("slow", slow.url, 20))
        server.put(hooked("quick", quick.url))
        stuck = [offer(server, "slow", f"s{n}", f"u{n}") for n in range(8)]
        until(lambda: slow.at_once == 4)
        started = time.monotonic()
        settled(server, "quick", offer(server, "quick"))
        assert time.monotonic() - started < 2
        assert slow.most_at_once == 4
        figures = {
            (sample.name, *sample.labels.values()): sample.value
            for family in text_string_to_metric_families(server.http.get("/metrics").text)
            for sample in family.samples
        }
        assert figures["nudgeledger_deliveries_total", "webhook", "delivered"] == 1
        assert figures["nudgeledger_deliveries_total", "webhook", "attempted"] == 5
        assert figures["nudgeledger_deliveries_open",] == 8
        started = time.monotonic()
        server.stop()
        assert time.monotonic() - started < 8
        again = launch(sqlite_url)
        cut = [found[1] for nudge in stuck if len(found := steps(again, "slow", nudge)) > 1]
        assert [step["error"] for step in cut] == ["the service stopped during the attempt"] * 4
        until(lambda: len(slow.requests) > 4)  # and all of them are tried again


# --- a power cut between attempt and outcome -----------------------------------------------------

AT_MOST_ONCE = """
import sys
from api.delivery.webhook import Webhook
Webhook.idempotent = False
from api import cli
sys.exit(cli.main())
"""


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_kill_during_an_attempt_is_repeated_only_where_the_vendor_knows_the_key(
    ledger_url: str, launch: Launch, monkeypatch: pytest.MonkeyPatch, idempotent: bool
) -> None:
    if not idempotent:
        monkeypatch.setattr(serving, "COMMAND", [sys.executable, "-c", AT_MOST_ONCE])
    server = launch(ledger_url)
    with vendor(slowly(20), answers(200)) as hook:
        server.put(hooked("acme", hook.url, 0.5))
        nudge = offer(server, "acme")
        until(lambda: hook.requests)
        server.kill()
        again = launch(ledger_url)
        found = settled(again, "acme", nudge)
        if idempotent:
            assert kinds(found) == ["attempted", "unknown", "attempted", "delivered"]
            assert [request.headers["idempotency-key"] for request in hook.requests] == [nudge, nudge]
        else:
            time.sleep(0.3)
            assert kinds(found) == ["attempted", "unknown"] and len(hook.requests) == 1
        assert found[1]["error"] == "the service stopped during the attempt"


def test_of_two_servers_one_makes_each_attempt(postgres_url: str, launch: Launch) -> None:
    pair = launch(postgres_url), launch(postgres_url)
    with vendor(answers(500), answers(200)) as hook:
        pair[0].put(hooked("acme", hook.url, 5))
        until(lambda: pair[1].http.get("/v1/products/acme/config").status_code == 200)
        nudges = [offer(pair[n % 2], "acme", f"s{n}", f"u{n}") for n in range(20)]
        for nudge in nudges:
            settled(pair[0], "acme", nudge)
        counted = Counter(request.headers["idempotency-key"] for request in hook.requests)
        assert set(counted) == set(nudges)
        assert sorted(counted.values()) == [1] * 19 + [2]  # the first request of all failed
    assert command("verify", "--database-url", postgres_url).returncode == 0


# --- rebuilding ----------------------------------------------------------------------------------


def test_a_rebuild_sends_nothing_that_was_sent(server: Server, run: Run) -> None:
    """Beside a serving process; every row is lost while some deliveries are open and some are closed."""
    name = product_id()
    with vendor(answers(200), answers(503, None, Retry_After="3"), answers(200)) as hook:
        server.put(hooked(name, hook.url))
        done = offer(server, name, "s1", "u1")
        settled(server, name, done)
        waits = offer(server, name, "s2", "u2")
        until(lambda: kinds(steps(server, name, waits)) == ["attempted", "failed"])

        async def lose() -> None:
            ledger: Ledger = open_ledger(server.database_url)
            async with ledger.transaction() as conn:
                await conn.execute(sa.delete(tables.deliveries).where(tables.deliveries.c.product == name))
            await ledger.close()

        run(lose())
        rebuilt = command("rebuild", "deliveries", "--database-url", server.database_url)
        assert rebuilt.returncode == 0, rebuilt.stderr
        assert rebuilt.stdout.splitlines()[-1].startswith("changed 2 rows of 2 sessions")
        found = settled(server, name, waits)
        assert kinds(found) == ["attempted", "failed", "attempted", "delivered"]
        keys = Counter(request.headers["idempotency-key"] for request in hook.requests)
    assert keys == {done: 1, waits: 2}
