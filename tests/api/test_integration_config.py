"""Putting the published configuration over HTTP."""

from __future__ import annotations

from tests.api import serving


def test_it_is_activated_with_warnings_and_read_back_as_ours(server: serving.Server) -> None:
    product = serving.product_id()
    raw = {"proactive_triggers": {"mode": "default_registry", "colour": 1}, "tour_registry": [{"id": "t"}, 3]}
    path = f"/v1/products/{product}/config"
    answer = server.http.put(path, params={"format": "integration_config"}, json=raw)
    assert answer.status_code == 200, answer.text
    assert [w["path"] for w in answer.json()["warnings"]] == ["proactive_triggers.colour", "tour_registry[1]"]
    config = server.http.get(path).json()["config"]
    assert [t["builtin"] for t in config["triggers"]] == ["canonical_url_ping_pong"]
    assert [t["id"] for t in config["tours"]] == ["t"]
    again = server.http.put(path, params={"format": "integration_config"}, json=raw).json()
    assert (again["activated"], again["revision"]) == (False, answer.json()["revision"])


def test_a_bad_builtin_refuses_all_of_it_and_is_logged_as_published(server: serving.Server) -> None:
    product = serving.product_id()
    raw = {"proactive_triggers": {"builtins": [{"id": "bulk"}]}}
    path = f"/v1/products/{product}/config"
    answer = server.http.put(path, params={"format": "integration_config"}, json=raw)
    assert answer.status_code == 422
    assert "proactive_triggers.builtins[0].id" in [e["path"] for e in answer.json()["errors"]]
    assert server.http.get(path).status_code == 404
    assert "proactive_builtin_spec_invalid" in server.log.read_text()
