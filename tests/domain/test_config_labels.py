"""The key `labels` of a config: what it reads, and every fault by its path."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain import canonical, config_parse
from domain.config_labels import MAX_RULES, ElementRule, Labels, Match, PageRule
from domain.errors import InvalidConfig


def read(labels: object) -> Labels:
    return config_parse.parse({"schema": 1, "product_id": "acme", "labels": labels}).labels


def faults(labels: object) -> dict[str, str]:
    with pytest.raises(InvalidConfig) as caught:
        read(labels)
    return {fault.path: fault.detail for fault in caught.value.faults}


def test_every_rule_is_read() -> None:
    labels = read(
        {
            "pages": [
                {"url_prefix": "https://App.acme.test/p/", "name": "  Projects "},
                {"url_contains": ["/billing", "/invoices"], "name": "Billing"},
            ],
            "elements": [{"match": {"data_attr": "save-changes", "tag": ["a", "BUTTON"]}, "name": "Save it"}],
            "collapse": ["/orgs/*/members", "/files/:folder/"],
            "ignore": [
                {"match": {"class": "chat-widget"}},
                {"url_contains": "/internal"},
                {"event": ["Heartbeat", "ping"]},
            ],
        }
    )
    assert labels == Labels(
        pages=(
            PageRule("Projects", url_prefix=("https://app.acme.test/p/",)),
            PageRule("Billing", url_contains=("/billing", "/invoices")),
        ),
        elements=(
            ElementRule("Save it", Match((("data_attr", ("save-changes",)), ("tag", ("a", "button"))))),
        ),
        collapse=(("orgs", ":id", "members"), ("files", ":folder")),
        ignored_pages=(PageRule("", url_contains=("/internal",)),),
        ignored_elements=(Match((("class", ("chat-widget",)),)),),
        ignored_events=frozenset(("heartbeat", "ping")),
        digest=labels.digest,
    )
    assert len(labels.digest) == 6


def test_without_rules_there_is_no_digest_and_other_rules_have_another() -> None:
    assert config_parse.parse({"schema": 1, "product_id": "acme"}).labels == Labels()
    assert read({}) == Labels()
    one, two = read({"collapse": ["/a/*"]}), read({"collapse": ["/a/:b"]})
    assert len({one.digest, two.digest, ""}) == 3
    swapped = {"name": "N", "url_prefix": "/p"}, {"url_prefix": "/p", "name": "N"}
    assert len({read({"pages": [rule]}).digest for rule in swapped}) == 1  # the order of keys says nothing


@pytest.mark.parametrize(
    ("labels", "wanted"),
    [
        ([], {"labels": "must be an object"}),
        ({"page": []}, {"labels.page": "unknown key; did you mean pages?"}),
        ({"pages": {}}, {"labels.pages": "must be a list"}),
        (
            {"pages": [{"name": "N"}, {"url_contains": "/p"}, 5]},
            {
                "labels.pages[0]": "needs url_contains or url_prefix",
                "labels.pages[1].name": "is required",
                "labels.pages[2]": "must be an object",
            },
        ),
        (
            {"pages": [{"url_contains": [], "url_prefix": "x" * 201, "name": "n" * 201}]},
            {
                "labels.pages[0].url_contains": "must not be an empty list",
                "labels.pages[0].url_prefix": "must be texts of at most 200 characters",
                "labels.pages[0].name": "must be at most 200 characters, has 201",
            },
        ),
        (
            {"elements": [{"name": "N"}, {"match": {}, "name": "N"}, {"match": {"clas": "x", "id": 5}}]},
            {
                "labels.elements[0].match": "is required",
                "labels.elements[1].match": "must name at least one of id, name, data_attr, test_id, role, "
                "type, aria_label, text, text_contains, tag, class, href_contains",
                "labels.elements[2].match.clas": "unknown key; did you mean class?",
                "labels.elements[2].match.id": "must be text that is not blank, or a list of such texts",
                "labels.elements[2].name": "is required",
            },
        ),
        (
            {"collapse": ["orgs/*", "/a/b", "/a?x=*", "/a//*", 5, "/a/:", "/" + "a" * 200]},
            {
                f"labels.collapse[{place}]": "must be a path of at most 200 characters, as /orgs/*/members"
                for place in (0, 2, 3, 4, 5, 6)
            }
            | {"labels.collapse[1]": '"/a/b" collapses nothing: put * or a :name for a segment'},
        ),
        (
            {"ignore": [{}, {"event": "x", "url_contains": "/y"}, {"event": " "}, {"match": []}]},
            {
                "labels.ignore[0]": "must say one of: match, event, or url_contains and url_prefix",
                "labels.ignore[1]": "must say one of: match, event, or url_contains and url_prefix",
                "labels.ignore[2].event": "must be text that is not blank, or a list of such texts",
                "labels.ignore[3].match": "must be an object",
            },
        ),
        (
            {"collapse": ["/a/*"] * (MAX_RULES + 1)},
            {"labels.collapse": "must have at most 200 elements, has 201"},
        ),
    ],
)
def test_every_fault_is_named_by_its_path(labels: object, wanted: dict[str, str]) -> None:
    assert faults(labels) == wanted


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("https://app.test/orgs/acme/members", "https://app.test/orgs/:id/members"),
        ("https://app.test/Orgs/acme/Members/add", "https://app.test/Orgs/:id/Members/add"),
        ("/orgs/acme/members", "/orgs/:id/members"),
        ("https://app.test/orgs/acme/billing", "https://app.test/orgs/acme/billing"),
        ("https://app.test/orgs", "https://app.test/orgs"),
        ("https://app.test/files/:id/x", "https://app.test/files/:folder/x"),
        ("https://app.test/", "https://app.test/"),
        ("https://app.test", "https://app.test"),
        ("/", "/"),
    ],
)
def test_addresses_are_collapsed_segment_by_segment(url: str, wanted: str) -> None:
    labels = read({"collapse": ["/orgs/*/members", "/files/:folder"]})
    assert canonical.collapse(url, labels.collapse) == wanted


_SEGMENT = st.sampled_from(("a", "b", "c", "*", ":x", ":id"))
_PATTERN = st.lists(_SEGMENT, min_size=1, max_size=4).filter(lambda p: any(s[0] in "*:" for s in p))


@given(
    patterns=st.lists(_PATTERN, max_size=4),
    path=st.lists(st.sampled_from(("a", "B", "c", ":id", ":x", "acme", "")), max_size=5),
    host=st.sampled_from(("https://app.test", "")),
)
def test_what_is_collapsed_collapses_to_itself(patterns: list[list[str]], path: list[str], host: str) -> None:
    rules: Any = read({"collapse": ["/" + "/".join(pattern) for pattern in patterns]}).collapse
    url = f"{host}/{'/'.join(path)}"
    once = canonical.collapse(url, rules)
    assert canonical.collapse(once, rules) == once
    assert once.count("/") == url.count("/")
