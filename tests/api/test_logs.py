"""What the service writes about itself: ids to find things again, no bodies, no secrets."""

from __future__ import annotations

from tests.api.conftest import Launch
from tests.api.serving import action, command, config, fact, saves

MARK = "zx-marker-9431"


def test_a_run_logs_a_line_for_each_decision_and_nothing_personal(ledger_url: str, launch: Launch) -> None:
    added = command("product", "add", "acme", "--database-url", ledger_url)
    secrets = [line.split()[-1] for line in added.stdout.splitlines()[1:4]]
    server = launch(ledger_url)
    server.put(config("acme"))
    data = {
        "type": "click",
        "title": "Save changes",
        "properties": {"x": MARK},
        "raw_url": f"https://a.example/?q={MARK}",
    }
    server.post("acme", fact("user_identified", "s", email=f"{MARK}@example.com", traits={"name": MARK}))
    server.post("acme", action("s", data=data))
    decided = server.post("acme", *saves("s"), *saves("t", "u_2"))["decisions"]
    server.post("acme", fact("chat_message", "s", role="user", text=MARK))
    server.http.post("/v1/products/acme/events", json={"events": [action("s", MARK, type=MARK)]})
    server.http.post("/v1/products/acme/events", content=f'{{"{MARK}": '.encode())
    server.http.post("/webhook/acme", json={"event": MARK}, headers={"x-posthog-secret": MARK})
    server.http.post("/webhook/acme", json={"event": MARK}, headers={"x-posthog-secret": secrets[1]})
    server.http.get(f"/v1/products/acme/sessions/{MARK}")
    server.stop()
    log = server.log.read_text()
    assert MARK not in log
    for secret in secrets:
        assert secret not in log
    assert len(decided) == 2
    for decision in decided:
        (line,) = [line for line in log.splitlines() if decision["decision_id"] in line]
        for word in ("nudge_offered", "acme", "saves", f"position={decision['position']}"):
            assert word in line
    assert "Traceback" not in log


def test_logs_can_be_json(sqlite_url: str, launch: Launch) -> None:
    server = launch(sqlite_url, log="json")
    server.put(config("acme"))
    server.post("acme", *saves("s"))
    lines = [line for line in server.log.read_text().splitlines() if "nudge_offered" in line]
    assert len(lines) == 1
    assert '"trigger"' in lines[0]
