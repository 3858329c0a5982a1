"""Product configs for benchmarks: ten triggers of the two shapes that the examples have."""

from __future__ import annotations

from typing import Any

PRODUCT = "bench"
PROBE_TITLE = "Save probe"


def ten_triggers() -> dict[str, Any]:
    """Ten triggers, three criteria each, that a load evaluates after every batch and that never fire."""
    return _config([_trigger(i, f"t{i}", 500 + i) for i in range(10)])


def with_probe() -> dict[str, Any]:
    """Ten triggers, the last of which a third "Save probe" fires, once a session.

    The timings are short, so that the same user can be asked again soon, in a new session.
    """
    probe = {
        "id": "probe",
        "cooldown_s": 1,
        "interaction_timeout_s": 1,
        "limits": {"per_session": 1},
        "criteria": {
            "operator": "AND",
            "conditions": [
                {"type": "current_page", "url_contains": "/projects"},
                {"type": "count", "where": {"title_contains": PROBE_TITLE}, "at_least": 3, "within_s": 120},
            ],
        },
    }
    config = _config([*(_trigger(i, f"t{i}", 500 + i) for i in range(9)), probe])
    return config | {"session": {"interaction_timeout_s": 1, "cooldown_period_s": 1}}


def deciding() -> dict[str, Any]:
    """Ten triggers of which two fire now and then: a ledger with decisions to replay."""
    return _config([_trigger(i, f"t{i}", 500 + i if i < 8 else i - 5) for i in range(10)])


def _trigger(number: int, name: str, at_least: int) -> dict[str, Any]:
    fires = at_least < 500
    page = "/projects" if number % 2 == 0 or fires else "/nowhere"
    title = ("save changes", "edit")[number % 2]
    return {
        "id": name,
        "criteria": {
            "operator": "AND",
            "conditions": [
                {"type": "current_page", "url_contains": page},
                {
                    "type": "count",
                    "where": {"title_contains": title, "url_contains": "/projects"},
                    "at_least": at_least,
                    "within_s": 120,
                },
                {"type": "absent", "where": {"title_contains": f"bulk edit {number}"}, "within": "session"},
            ],
        },
    }


def _config(triggers: list[dict[str, Any]]) -> dict[str, Any]:
    return {"schema": 1, "product_id": PRODUCT, "triggers": triggers}
