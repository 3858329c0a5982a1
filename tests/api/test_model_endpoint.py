"""The endpoint of a language model, against a fake server over real HTTP (see `tests/fakes/model.py`)."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from api.model import endpoint as endpoints
from api.model.endpoint import MAX_ANSWER, Endpoint
from api.model.port import Answer, ModelFailed, Prompt
from domain.config_around import Model
from domain.config_parse import parse
from domain.errors import InvalidConfig
from domain.instants import DAY, SECOND
from eventstore.engine import Ledger
from tests.api.inside import FakeClock
from tests.api.serving import config
from tests.conftest import Run
from tests.fakes import model as fakes
from tests.fakes.model import FakeModel, Raw, completion

PROMPT = Prompt("test-1", "Be brief.", "secret question", 50)


@pytest.fixture
def fake() -> Iterator[FakeModel]:
    with fakes.serving() as found:
        yield found


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "BACKOFF_S", 0.01)


def settings(fake: FakeModel, **changes: Any) -> Model:
    return Model(**{"url": fake.url, "name": "small-1", "timeout": 20 * SECOND, "attempts": 2} | changes)


async def ask(ledger: Ledger, wanted: Model | None, prompt: Prompt = PROMPT) -> Answer:
    endpoint = Endpoint(ledger, FakeClock())
    try:
        return await endpoint.ask("acme", wanted, prompt)
    finally:
        await endpoint.stop()


def failed(run: Run, ledger: Ledger, wanted: Model | None, prompt: Prompt = PROMPT) -> str:
    with pytest.raises(ModelFailed) as caught:
        run(ask(ledger, wanted, prompt))
    return caught.value.reason


def test_a_question_is_sent_as_the_public_api_documents(
    fake: FakeModel, sqlite_ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_KEY", "sk-1")
    answer = run(ask(sqlite_ledger, settings(fake, key="env:LLM_KEY"), PROMPT._replace(json=False)))
    assert answer == Answer("All is well.", "small-1-2026", 42)
    assert fake.headers[0]["authorization"] == "Bearer sk-1"
    assert fake.asked == [
        {
            "model": "small-1",
            "messages": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "secret question"},
            ],
            "max_tokens": 50,
            "temperature": 0,
        }
    ]


def test_json_is_asked_for_and_checked(fake: FakeModel, sqlite_ledger: Ledger, run: Run) -> None:
    wanted = PROMPT._replace(json=True)
    fake.answers = ['```json\n{"veto": false}\n```', "no", "[1]", "{}"]
    assert json.loads(run(ask(sqlite_ledger, settings(fake), wanted)).text) == {"veto": False}
    assert fake.asked[0]["response_format"] == {"type": "json_object"}
    assert "authorization" not in fake.headers[0]  # a local model needs no key
    assert failed(run, sqlite_ledger, settings(fake), wanted) == "nonsense"
    assert failed(run, sqlite_ledger, settings(fake), wanted) == "nonsense"
    assert run(ask(sqlite_ledger, settings(fake), wanted)).text == "{}"


@pytest.mark.parametrize(
    ("answer", "reason", "calls"),
    [
        (Raw(b"{}", 401), "refused", 1),
        (Raw(b"{}", 404), "refused", 1),
        (Raw(b"", 302, {"location": "http://127.0.0.1:1/"}), "refused", 1),
        (Raw(b"oops", 500), "unreachable", 2),
        (Raw(b"{}", 429), "unreachable", 2),
        (Raw(b"{}", 429, {"retry-after": "60"}), "unreachable", 1),
        (Raw(completion("late"), pause_s=3), "timeout", 2),
        (Raw(completion("drop by drop"), drip_s=0.05), "timeout", 2),
        (Raw(b"x" * (MAX_ANSWER + 1)), "nonsense", 1),
        (Raw(b"<html>"), "nonsense", 1),
        (Raw(b"[]"), "nonsense", 1),
        (Raw(b"[" * 100_000), "nonsense", 1),
        (Raw(b'{"choices": []}'), "nonsense", 1),
        (Raw(b'{"choices": [{"message": {"content": 7}}]}'), "nonsense", 1),
        (Raw(b'{"choices": [{"message": {"content": "\\ud800"}}]}'), "nonsense", 1),
        (Raw(completion("ok"), headers={"content-encoding": "gzip"}), "nonsense", 1),
        (Raw(completion("  \n ")), "nonsense", 1),
        (Raw(completion("x" * 2_000)), "nonsense", 1),
        (
            Raw(completion("cut", choices=[{"message": {"content": "cut"}, "finish_reason": "length"}])),
            "nonsense",
            1,
        ),
    ],
)
def test_what_can_go_wrong_has_a_reason_and_ends_in_time(
    fake: FakeModel, sqlite_ledger: Ledger, run: Run, answer: Raw, reason: str, calls: int
) -> None:
    fake.answers = [answer]
    wanted = settings(fake, timeout=SECOND // 4) if reason == "timeout" else settings(fake)
    began = time.monotonic()
    assert failed(run, sqlite_ledger, wanted) == reason
    assert time.monotonic() - began < 5
    # A busy machine may not come to ask in a quarter of a second.
    assert len(fake.asked) == calls or reason == "timeout"


def test_an_endpoint_that_recovers_is_asked_again(fake: FakeModel, sqlite_ledger: Ledger, run: Run) -> None:
    fake.answers = [Raw(b"", 429, {"retry-after": "0"}), Raw(b"", 503, {"retry-after": "0"}), "There."]
    assert run(ask(sqlite_ledger, settings(fake, attempts=3))).text == "There."
    assert len(fake.asked) == 3


def test_without_model_key_or_server_the_reason_says_so(
    fake: FakeModel, sqlite_ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLM_KEY", raising=False)
    assert failed(run, sqlite_ledger, None) == "no_model"
    assert failed(run, sqlite_ledger, settings(fake, key="env:LLM_KEY")) == "no_key"
    monkeypatch.setenv("LLM_KEY", "sk\nx: y")
    assert failed(run, sqlite_ledger, settings(fake, key="env:LLM_KEY")) == "no_key"
    nobody = settings(fake, url="http://127.0.0.1:1/v1", attempts=1)
    assert failed(run, sqlite_ledger, nobody) == "unreachable"
    assert not fake.asked


def test_an_endpoint_that_keeps_failing_rests(fake: FakeModel, sqlite_ledger: Ledger, run: Run) -> None:
    fake.answers = [Raw(b"", 500)] * 5 + ["Back."]
    clock = FakeClock()

    async def story() -> list[str]:
        endpoint = Endpoint(sqlite_ledger, clock)
        said: list[str] = []
        for step in range(8):
            if step == 7:
                clock.instant += 11 * SECOND
            try:
                said.append((await endpoint.ask("acme", settings(fake, attempts=1), PROMPT)).text)
            except ModelFailed as error:
                said.append(error.reason)
        await endpoint.stop()
        return said

    assert run(story()) == ["unreachable"] * 7 + ["Back."]
    assert len(fake.asked) == 6  # two were not even asked


def test_a_budget_of_calls_and_of_tokens_holds_for_a_day(
    fake: FakeModel, sqlite_ledger: Ledger, run: Run
) -> None:
    clock = FakeClock()

    async def story(wanted: Model, times: int) -> list[str]:
        endpoint = Endpoint(sqlite_ledger, clock)
        asked = [endpoint.ask("acme", wanted, PROMPT) for _ in range(times)]
        done = await asyncio.gather(*asked, return_exceptions=True)
        clock.instant += DAY
        done.append(await endpoint.ask("acme", wanted, PROMPT))
        await endpoint.stop()
        return [d.reason if isinstance(d, ModelFailed) else "ok" for d in done]

    said = run(story(settings(fake, calls_per_day=3), 5))
    assert sorted(said[:5]) == ["budget", "budget", "ok", "ok", "ok"]  # those under way count
    assert said[5] == "ok"
    said = run(story(settings(fake, tokens_per_day=250), 5))
    assert said[:5].count("ok") == 2  # about a hundred tokens are held back for each
    assert said[5] == "ok"


def test_stopping_ends_what_is_under_way(fake: FakeModel, sqlite_ledger: Ledger, run: Run) -> None:
    fake.answers = [Raw(completion("never"), pause_s=30)]

    async def story() -> None:
        endpoint = Endpoint(sqlite_ledger, FakeClock())
        asking = asyncio.create_task(endpoint.ask("acme", settings(fake, timeout=60 * SECOND), PROMPT))
        while not fake.asked:
            await asyncio.sleep(0.01)
        async with asyncio.timeout(2):
            await endpoint.stop()
            with pytest.raises(ModelFailed, match="unreachable"):
                await asking
        with pytest.raises(ModelFailed, match="stopping"):
            await endpoint.ask("acme", settings(fake), PROMPT)

    run(story())


def test_a_config_that_asks_for_too_much_or_holds_a_key_is_refused() -> None:
    rows = config("acme", model={"url": "ftp://x", "name": "m", "attempts": 9, "key": "sk-1", "timeout_s": 0})
    with pytest.raises(InvalidConfig) as caught:
        parse(rows)
    assert {fault.path for fault in caught.value.faults} == {
        f"model.{key}" for key in ("url", "attempts", "key", "timeout_s")
    }
    assert "sk-1" not in str(caught.value)


def test_neither_prompt_nor_answer_nor_key_is_logged(
    fake: FakeModel, sqlite_ledger: Ledger, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_KEY", "sk-quite-secret")
    fake.answers = [Raw(b'{"error": "an answer"}', 400), Raw(b"an answer"), "Fine."]
    wanted = settings(fake, key="env:LLM_KEY")
    with structlog.testing.capture_logs() as logs:
        failed(run, sqlite_ledger, wanted)
        failed(run, sqlite_ledger, wanted)
        run(ask(sqlite_ledger, wanted))
    assert [entry["reason"] for entry in logs] == ["refused", "nonsense"]
    said = repr(logs)
    assert not any(text in said for text in ("secret question", "an answer", "quite-secret", "Be brief"))
