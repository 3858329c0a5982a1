"""Push webhooks, received by the real `WebhookReceiver` of autoplay-sdk 0.13.0; and its onboarding client."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from autoplay_sdk import ActionsPayload
from autoplay_sdk.admin.connector_registration_http import (
    ConnectorRegistrationHttpError,
    ProductAlreadyRegisteredError,
)
from autoplay_sdk.admin.onboarding import onboard_product_sync
from autoplay_sdk.webhook_receiver import WebhookReceiver

from tests.api.conftest import Launch
from tests.api.serving import Server, action, command, config, fact, product_id, until
from tests.wire.supervised import Endpoint

SECRET = "a secret of the host's"
Serve = Callable[[Callable[[int], int]], "Received"]


@pytest.fixture
def ledger_url(one_url: str) -> str:
    return one_url


class Received:
    """What a real receiver made of the requests that its endpoint took."""

    def __init__(self, answers: Callable[[int], int]) -> None:
        self._receiver = WebhookReceiver(secret=SECRET)
        self.payloads: list[Any] = []
        self.endpoint = Endpoint(self._take, answers)

    def _take(self, body: bytes, signature: str | None) -> None:
        self.payloads.append(self._receiver.handle_sync(body, signature))  # raises where it is not signed

    def titles(self) -> list[str]:
        return [a.title for p in self.payloads if isinstance(p, ActionsPayload) for a in p.actions]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    monkeypatch.setenv("HOST_SECRET", SECRET)
    started: list[Received] = []

    def start(answers: Callable[[int], int] = lambda n: 200) -> Received:
        made = Received(answers)
        started.append(made)
        return made

    yield start
    for made in started:
        made.endpoint.close()


def pushing(product: str, received: Received) -> dict[str, Any]:
    channels = {"push": {"url": received.endpoint.url, "secret": "env:HOST_SECRET", "timeout_s": 2}}
    return config(product, triggers=[], channels=channels)


def test_every_frame_is_pushed_signed_in_order_and_again_after_a_crash(
    postgres_url: str, launch: Launch, serve: Serve
) -> None:
    """The endpoint fails now and then, and the service is killed in the middle: nothing is lost. What was
    recorded before the endpoint was named stays where it is."""
    received = serve(lambda n: 503 if n in (3, 4) else 200)
    server = launch(postgres_url)
    server.put(config("acme", triggers=[]))
    server.post("acme", action("s", "Before"))
    server.put(pushing("acme", received))
    wanted = [f"Action {n}" for n in range(12)]
    for title in wanted[:6]:
        server.post("acme", action("s", title))
    server.kill()
    again = launch(postgres_url)
    for title in wanted[6:]:
        again.post("acme", action("s", title))
    until(lambda: received.titles()[-1:] == wanted[-1:], within_s=20)
    titles = received.titles()
    assert list(dict.fromkeys(titles)) == wanted, "once at least, first in order, and nothing from before"
    indices = [a.index for p in received.payloads for a in p.actions]
    assert sorted(set(indices)) == list(range(1, 13))
    keys: dict[str | None, bytes] = {}
    for key, body in zip(received.endpoint.keys, received.endpoint.taken, strict=True):
        assert keys.setdefault(key, body) == body, "the same frame is the same bytes"
    lag = 'nudgeledger_push_lag_seconds{product="acme"} 0.0'
    until(lambda: lag in again.http.get("/metrics").text)
    again.stop()
    assert command("verify", "--database-url", postgres_url).returncode == 0
    quiet = len(received.payloads)
    last = launch(postgres_url)
    last.post("acme", action("s", "Last"))
    until(lambda: len(received.payloads) == quiet + 1)
    time.sleep(0.3)
    assert received.titles()[-1] == "Last"
    assert len(received.payloads) == quiet + 1, "a clean stop repeats nothing"


def test_two_servers_on_one_postgresql_push_once_and_one_takes_over(
    postgres_url: str, launch: Launch, serve: Serve
) -> None:
    received = serve(lambda n: 200)
    first = launch(postgres_url)
    first.put(pushing("acme", received))
    second = launch(postgres_url)
    wanted = [f"Action {n}" for n in range(20)]
    for n, title in enumerate(wanted):
        (first, second)[n % 2].post("acme", action("s", title))
    until(lambda: len(received.titles()) >= 20)
    time.sleep(0.3)
    assert received.titles() == wanted
    first.stop()
    second.post("acme", action("s", "After"))
    until(lambda: received.titles() == [*wanted, "After"], within_s=15)


def test_an_imported_history_is_not_pushed(
    sqlite_url: str, launch: Launch, serve: Serve, tmp_path: Path
) -> None:
    received = serve(lambda n: 200)
    server = launch(sqlite_url)
    server.put(pushing("acme", received))
    server.post("acme", action("s", "There"))
    until(lambda: received.titles() == ["There"])
    server.stop()
    file = tmp_path / "acme.jsonl"
    exported = command("export", "--database-url", sqlite_url, "--out", str(file))
    assert exported.returncode == 0, exported.stderr
    elsewhere = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    imported = command("import", str(file), "--database-url", elsewhere)
    assert imported.returncode == 0, imported.stderr
    other = launch(elsewhere)
    other.post("acme", action("s", "Here"))
    until(lambda: len(received.titles()) > 1)
    assert received.titles() == ["There", "Here"]
    assert received.payloads[-1].actions[0].index == 1


def test_the_published_onboarding_client_registers_a_product(server: Server, serve: Serve) -> None:
    address = f"http://127.0.0.1:{server.port}"
    project = f"project-{product_id()}"

    def onboard(**more: Any) -> Any:
        return onboard_product_sync(
            project,
            contact_email="ana@example.test",
            user_activity_provider="posthog",
            connector_url=address,
            **more,
        )

    made = onboard(ingest_secret="a preset secret of ours")
    assert made.product_id == f"posthog-{project}"
    assert made.ingest_secret == "a preset secret of ours"
    assert made.ingest_url == f"{address}/ingest/{made.product_id}"
    assert made.mcp_key
    assert made.owner_token
    with pytest.raises(ProductAlreadyRegisteredError):
        onboard()
    with pytest.raises(ConnectorRegistrationHttpError) as refused:
        onboard(owner_token="not it")
    assert refused.value.status_code == 403
    renewed = onboard(owner_token=made.owner_token)
    assert renewed.product_id == made.product_id
    assert renewed.mcp_key != made.mcp_key
    assert renewed.owner_token is None
    flat = {
        "event": "$pageview",
        "timestamp": "2026-11-20T09:25:20.810Z",
        "session_id": "s",
        "distinct_id": "u",
    }
    path = f"/webhook/{made.product_id}"
    for secret, status in ((made.ingest_secret, 401), (renewed.ingest_secret, 200)):
        answer = server.http.post(path, content=json.dumps(flat), headers={"x-posthog-secret": secret})
        assert answer.status_code == status, answer.text
    server.post(made.product_id, fact("chat_message", "s", "u", role="user", text="hi"))
