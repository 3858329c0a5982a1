"""Settings from the environment (`NUDGELEDGER_…`) and the command line, which wins."""

from __future__ import annotations

from typing import Literal

from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="NUDGELEDGER_")

    host: str = "127.0.0.1"
    port: int = 8090
    database_url: str = "sqlite:///nudgeledger.db"
    auth: Literal["on", "off"] = "off"
    default_product: str | None = None
    log: Literal["text", "json"] = "text"
    predicate_budget_ms: int = 50  # what one predicate may take before it reads unknown
    stalled_s: float = 30.0  # how long a client may take no byte of what is sent before it is cut off
    keep_alive_s: float = 15.0  # between two signs of life on a quiet stream
    cached_sessions: int = 20_000  # folded sessions kept in memory for each product
