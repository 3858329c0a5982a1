"""What a config says of the systems around: channels, secrets by reference, the language model, the judge.

    channels:
      webhook: {url: "https://hooks.acme.test/nudges", secret: "env:ACME_HOOK", timeout_s: 10}
      push: {url: "https://bridge.acme.test/events", secret: "env:ACME_PUSH"}
      rasa: {url: "http://127.0.0.1:5005", token: "env:RASA_TOKEN", intent: EXTERNAL_nudge}
      intercom: {token: "env:INTERCOM_TOKEN", admin_id: "991267698", client_secret: "env:INTERCOM_SECRET"}
      usertour: {secret: "env:USERTOUR_SECRET"}
      segment: {secret: "env:SEGMENT_SECRET"}
    model: {url: "https://llm.acme.test/v1", key: "env:LLM_KEY", name: small-1, timeout_s: 8}
    judge: {timeout_s: 3, triggers: [bulk_edit_opportunity], guidance: "Veto where the user is paying."}

Secrets stand in no config: `env:NAME` names the environment variable of the service that holds one.
Durations are microseconds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from domain.config_fields import Row
from domain.instants import MINUTE, SECOND

SYSTEMS: Final = ("webhook", "push", "rasa", "intercom", "usertour", "segment")

MAX_ATTEMPTS: Final = 5  # of one question to a model

_SECRET = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]*\Z")
_URL = re.compile(r"https?://[^\s/?#@]+(/[^\s#]*)?\Z", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Hook:
    """An endpoint of the host's that takes signed JSON."""

    url: str
    secret: str | None = None  # env:NAME
    timeout: int = 10 * SECOND


@dataclass(frozen=True, slots=True)
class Rasa:
    url: str
    token: str | None = None  # env:NAME
    intent: str = "EXTERNAL_nudge"
    output_channel: str = "latest"
    timeout: int = 10 * SECOND


@dataclass(frozen=True, slots=True)
class Intercom:
    token: str  # env:NAME
    admin_id: str
    client_secret: str | None = None  # env:NAME; without one, no webhook is believed
    url: str = "https://api.intercom.io"
    version: str = "Unstable"  # of the API: quick replies exist from 2.14 on
    timeout: int = 10 * SECOND


@dataclass(frozen=True, slots=True)
class Channels:
    """The systems that a product's nudges go to, and those that report back."""

    webhook: Hook | None = None  # every nudge whose trigger names the channel `webhook`
    push: Hook | None = None  # labelled actions and summaries, as `/stream/{product_id}` has them
    rasa: Rasa | None = None
    intercom: Intercom | None = None
    usertour: str | None = None  # env:NAME of the webhook secret
    segment: str | None = None  # env:NAME of the webhook destination's shared secret


@dataclass(frozen=True, slots=True)
class Model:
    """An OpenAI-compatible endpoint."""

    url: str  # up to and with the version: `/chat/completions` comes behind it
    name: str
    key: str | None = None  # env:NAME
    timeout: int = 8 * SECOND  # of one attempt; of a question: as often as it may be attempted
    attempts: int = 2
    calls_per_day: int = 10_000  # a product's budget, by days of UTC
    tokens_per_day: int = 5_000_000
    summarise_after: int = 30  # actions without a summary, before the older ones are summarised


@dataclass(frozen=True, slots=True)
class Judge:
    """A model's opinion between criteria and offer."""

    timeout: int = 3 * SECOND  # then the nudge is withheld
    triggers: tuple[str, ...] = ()  # ids; none given: all
    guidance: str | None = None  # what else the judge is to mind


def channels(top: Row) -> Channels:
    row = top.row("channels", SYSTEMS)
    if row is None:
        return Channels()
    return Channels(
        webhook=_hook(row, "webhook"),
        push=_hook(row, "push"),
        rasa=_rasa(row),
        intercom=_intercom(row),
        usertour=_only_secret(row, "usertour"),
        segment=_only_secret(row, "segment"),
    )


def model(top: Row) -> Model | None:
    known = ("url", "key", "name", "timeout_s", "attempts", "budget", "summarise_after")
    row = top.row("model", known)
    if row is None:
        return None
    default = Model("", "")
    budget = row.row("budget", ("calls", "tokens"))
    attempts = row.integer("attempts", default.attempts)
    if attempts > MAX_ATTEMPTS:
        row.fault("attempts", f"must be at most {MAX_ATTEMPTS}")
    return Model(
        url=url(row, "url", required=True) or "",
        name=row.text("name", required=True, most=200) or "",
        key=secret(row, "key"),
        timeout=row.duration("timeout_s", default.timeout, most=2 * MINUTE),
        attempts=attempts,
        calls_per_day=budget.integer("calls", default.calls_per_day) if budget else default.calls_per_day,
        tokens_per_day=budget.integer("tokens", default.tokens_per_day) if budget else default.tokens_per_day,
        summarise_after=row.integer("summarise_after", default.summarise_after, least=2),
    )


def judge(top: Row, triggers: Iterable[str]) -> Judge | None:
    row = top.row("judge", ("timeout_s", "triggers", "guidance"))
    if row is None:
        return None
    if not top.has("model"):
        top.fault("judge", "needs model: an endpoint to ask")
    known = frozenset(triggers)
    named = []
    for path, trigger_id in row.items("triggers", least=1):
        if not isinstance(trigger_id, str) or trigger_id not in known:
            row.faults.add(path, "must be the id of a trigger")
        else:
            named.append(trigger_id)
    return Judge(
        timeout=row.duration("timeout_s", Judge().timeout, most=MINUTE),
        triggers=tuple(named),
        guidance=row.text("guidance", most=2_000),
    )


def url(row: Row, key: str, *, required: bool = False) -> str | None:
    """An http or https address without a user name or fragment; no slash at its end."""
    value = row.text(key, required=required, most=2_000)
    if value is not None and not _URL.match(value):
        row.fault(key, "must be an http or https address, without user name or fragment")
        return None
    return value.rstrip("/") if value is not None else None


def secret(row: Row, key: str, *, required: bool = False) -> str | None:
    """A reference to a secret. The value itself is never repeated in a fault."""
    value = row.text(key, required=required)
    if value is not None and not _SECRET.match(value):
        row.fault(key, "a secret stands in no config: name an environment variable, as env:NAME")
        return None
    return value


def _hook(channels: Row, key: str) -> Hook | None:
    row = channels.row(key, ("url", "secret", "timeout_s"))
    if row is None:
        return None
    address = url(row, "url", required=True) or ""
    return Hook(address, secret(row, "secret"), _timeout(row))


def _rasa(channels: Row) -> Rasa | None:
    row = channels.row("rasa", ("url", "token", "intent", "output_channel", "timeout_s"))
    if row is None:
        return None
    default = Rasa("")
    return Rasa(
        url=url(row, "url", required=True) or "",
        token=secret(row, "token"),
        intent=row.ident("intent") or default.intent,
        output_channel=row.ident("output_channel") or default.output_channel,
        timeout=_timeout(row),
    )


def _intercom(channels: Row) -> Intercom | None:
    row = channels.row("intercom", ("token", "admin_id", "client_secret", "url", "version", "timeout_s"))
    if row is None:
        return None
    default = Intercom("", "")
    return Intercom(
        token=secret(row, "token", required=True) or "",
        admin_id=row.ident("admin_id", required=True) or "",
        client_secret=secret(row, "client_secret"),
        url=url(row, "url") or default.url,
        version=row.ident("version") or default.version,
        timeout=_timeout(row),
    )


def _only_secret(channels: Row, key: str) -> str | None:
    row = channels.row(key, ("secret",))
    return secret(row, "secret", required=True) if row is not None else None


def _timeout(row: Row) -> int:
    return row.duration("timeout_s", 10 * SECOND, most=MINUTE)
