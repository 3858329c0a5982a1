"""The labelling step: on recordings of posthog-js 1.449.2, on composed acts, and by laws."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ingest import elements, labelling, naming, posthog, stripping
from api.ingest.acts import Act, Seen
from api.ingest.elements import Element
from domain import config_parse, events, instants
from domain.config_labels import Labels
from domain.instants import SECOND

RECORDED = Path(__file__).parent.parent / "data" / "labelling" / "events.jsonl"
START = instants.parse("2026-11-20T09:25:00Z")
NONE = Labels()
KINDS = {"$pageview": "pageview", "$pageleave": "pageleave"}


def recorded() -> list[Seen]:
    found = []
    for line in RECORDED.read_text().splitlines():
        event = json.loads(line)
        own = event["properties"]
        act = Act(
            KINDS.get(event["event"], own.get("$event_type", "")),
            url=own["$current_url"],
            chain=elements.parse(own.get("$elements_chain", "")),
            text=own.get("$el_text"),
            properties={"elements_chain": own.get("$elements_chain", "")},
        )
        found.append(seen(act, event["uuid"], instants.parse(event["timestamp"]), own["$session_id"]))
    return found


def seen(act: Act, event_id: str = "e", at: int = START, session_id: str | None = "s") -> Seen:
    return Seen(act, event_id, session_id, "u", at, at, None, None, False, "posthog")


def rules(**labels: Any) -> Labels:
    return config_parse.parse({"schema": 1, "product_id": "acme", "labels": labels}).labels


def click(
    chain: str = "", text: str | None = None, url: str | None = "https://app.test/projects", **more: Any
) -> Act:
    return Act("click", url=url, chain=elements.parse(chain), text=text, **more)


def label(act: Act, labels: Labels = NONE) -> events.Action:
    return labelling.action(act, labels, "posthog")


def test_a_recorded_visit_is_told_as_the_user_would_tell_it() -> None:
    """Enter in the search box and the checkbox were three and two events; four clicks stay four."""
    labelled = labelling.outside(recorded(), NONE)
    told = [(e.event.type, e.event.title) for e in labelled.events if isinstance(e.event, events.Action)]
    assert told == [
        ("pageview", "Visited Projects"),
        ("click", "Edit"),
        ("change", "name"),
        ("click", "archived"),
        ("change", "api secret"),
        ("click", "Save changes"),
        ("click", "Save changes"),
        ("click", "Cancel"),
        ("click", "Delete Café; São;Paulo"),
        ("click", "⬇ Export CSV"),
        ("change", "status"),
        ("submit", "Search"),
        *[("click", "Dead button")] * 4,
        ("click", "Billing & plan"),
        ("pageleave", "Left Projects"),
    ]
    assert (labelled.merged, labelled.ignored) == (3, 0)


def test_a_recorded_click_has_its_description_addresses_end_and_version() -> None:
    labelled = labelling.outside(recorded(), NONE)
    save = labelled.events[5].event
    assert isinstance(save, events.Action)
    assert save.description == "User clicked Save changes on Projects / Edit"
    assert save.canonical_url == "http://localhost:9202/projects/:id/edit"
    assert save.raw_url == "http://localhost:9202/projects/102/edit"
    assert save.timestamp_end == labelled.events[6].occurred_at  # as the next act began
    assert save.labeller == "posthog-2"


def test_acts_end_as_the_next_begins_and_pageviews_as_their_page_is_left() -> None:
    acts = [
        seen(Act("pageview", url="/a"), "1", START),
        seen(click(), "2", START + SECOND),
        seen(Act("pageview", url="/b"), "3", START + 5 * SECOND),
        seen(click(), "4", START + 6 * SECOND),
        seen(Act("pageleave", url="/b"), "5", START + 9 * SECOND),
        seen(click(), "6", START + 2 * SECOND, "another"),
    ]
    ends = [e.event.timestamp_end for e in labelling.outside(acts, NONE).events]  # type: ignore[union-attr]
    assert [(end - START) // SECOND for end in ends if end is not None] == [5, 5, 9, 9, 9, 2]


@pytest.mark.parametrize(
    ("chain", "text", "title"),
    [
        ("", "Save changes", "Save changes"),
        ('button:text="Edit";td:text="Other"', "Edit", "Edit"),
        ('button:text="Edit \\"B2\\""', "Edit \\", 'Edit "B2"'),  # a flat text is cut at a quote
        ("", "Edit \\", "Edit"),
        # A click on an icon is a click on its button; an ancestor's text is not the button's.
        ('svg:nth-child="1";button:attr__aria-label="Delete";div:text="All"', "All", "Delete"),
        ('button:attr__title="Archive";li:text="Row 1"', "Row 1", "Archive"),
        ('span:text="now";div:attr__role="button"text="Buy now"', "now", "Buy now"),
        ('img:attr__alt="Our logo";a:attr__href="/"', None, "Our logo"),
        ('div:nth-child="1"', "Text of somebody", "Text of somebody"),
        ('button:attr__data-attr="save-changes"', None, "save changes"),
        ('button:attr__data-testid="save_it"attr__id="x1"', None, "save it"),
        ('input:attr__name="api_secret"', None, "api secret"),
        ('input:attr__placeholder="Find a project"attr__name="q"', None, "Find a project"),
        ('button:nth-child="1";section:attr__aria-label="Filters"', None, "Filters"),
        ('button:nth-child="1";div:attr__data-attr="row-menu"', None, "row menu"),
        ('button:nth-child="1"', None, "a button"),
        ('svg:nth-child="1"', None, "an icon"),
        ('input:attr__type="submit"', None, "a button"),
        ('article:nth-child="1"', None, "an article"),
        ("", None, "an element"),
        ('<script>:nth-child="1"', None, "an element"),
        ("garbage;;;", "  Save \n changes ", "Save changes"),
        ('a:text="Mail ana@example.com"', None, "Mail :email"),
        ('a:text="Card 4111 1111 1111 1111"', None, "Card :number"),
        ('a:text="' + "x" * 900 + '"', None, "x" * 500),
        # What a field says is what somebody typed or chose.
        ('textarea:attr__name="note"text="my secret"', "my secret", "note"),
        ('div:attr__contenteditable="true"text="my secret"', "my secret", "a div"),
        ('option:text="Married";select:attr__name="status"', "Married", "status"),
    ],
)
def test_a_click_is_labelled_as_the_user_would_call_it(chain: str, text: str | None, title: str) -> None:
    assert label(click(chain, text)).title == title


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://localhost:9202/projects/102/edit", "Projects / Edit"),
        ("https://app.example/", "Home"),
        ("https://app.example?utm=1", "Home"),
        ("https://app.example/settings/api-keys_list#x", "Settings / Api keys list"),
        ("https://app.example/caf%C3%A9", "Café"),
        ("https://app.example/" + "x" * 4000, "X" + "x" * 199),
        ("https://app.example/mail/ana%40example.com", "Mail"),
        ("http://[bad", "a page"),
        (None, "a page"),
    ],
)
def test_a_page_is_named_by_the_words_of_its_path(url: str | None, name: str) -> None:
    assert label(Act("pageview", url=url)).title == f"Visited {name}"


def test_a_custom_event_keeps_its_name() -> None:
    made = label(Act("custom", "data_source_open", url="https://app.test/sources"))
    assert (made.type, made.title) == ("data_source_open", "data_source_open")
    assert made.description == "User did data_source_open on Sources"
    assert label(Act("custom", "signed up")).description == "User did signed up"
    assert label(Act("pageview", page_title="Ana's ana@example.com")).title == "Visited Ana's :email"


# --- a product's rules ---------------------------------------------------------------------------


def test_rules_name_pages_and_elements_and_collapse_addresses() -> None:
    labels = rules(
        pages=[{"url_contains": "/orgs/:org", "name": "Team"}],
        elements=[{"match": {"data_attr": "Save-Changes"}, "name": "Save it"}],
        collapse=["/orgs/:org"],
    )
    save = 'svg:nth-child="1";button:attr__data-attr="save-changes"text="OK"'
    made = label(click(save, url="https://app.test/orgs/acme/members?x=1"), labels)
    assert (made.title, made.description) == ("Save it", "User clicked Save it on Team")
    assert made.canonical_url == "https://app.test/orgs/:org/members"
    assert made.labeller == f"posthog-2+{labels.digest}"
    assert label(Act("pageview", url="https://app.test/orgs/acme"), labels).title == "Visited Team"


@pytest.mark.parametrize(
    ("match", "fits"),
    [
        ({"id": "nav"}, True),
        ({"tag": ["p", "A"]}, True),
        ({"class": "btn"}, True),
        ({"class": "bt"}, False),
        ({"text": "open  Billing"}, True),
        ({"text": "billing"}, False),
        ({"text_contains": "billing"}, True),
        ({"aria_label": "main"}, True),
        ({"href_contains": "/BILLING"}, True),
        ({"href_contains": "/invoices"}, False),
        ({"tag": "a", "class": "btn"}, True),
        ({"tag": "nav", "class": "btn"}, False),  # of one element, not of two
    ],
)
def test_an_element_is_matched_by_all_fields_of_one_of_the_chain(match: dict[str, Any], fits: bool) -> None:
    link = 'a.btn:attr__class="btn"attr__href="/billing?x"text="Open Billing"'
    chain = f'{link};nav:attr__aria-label="Main"attr__id="nav"'
    made = label(click(chain), rules(elements=[{"match": match, "name": "Ruled"}]))
    assert (made.title == "Ruled") is fits


def test_what_a_product_ignores_is_counted_and_left_out() -> None:
    labels = rules(
        ignore=[
            {"match": {"class": "widget"}},
            {"url_contains": "/internal"},
            {"event": ["Ping", "pageleave"]},
        ]
    )
    acts = [
        click('button:text="Go";div.widget:attr__class="widget"'),
        click(url="https://app.test/internal/x"),
        Act("custom", "ping"),
        Act("pageleave", url="https://app.test/"),
        click('button:text="Go"'),
    ]
    labelled = labelling.outside([seen(act, str(n)) for n, act in enumerate(acts)], labels)
    assert ([event.event_id for event in labelled.events], labelled.ignored) == (["4"], 4)


# --- laws ----------------------------------------------------------------------------------------

_text = st.text(max_size=30)
_elements = st.builds(
    Element,
    st.sampled_from(("button", "a", "svg", "input", "textarea", "form", "select", "", "x-y", "<b>")) | _text,
    st.lists(_text, max_size=2).map(tuple),
    st.dictionaries(st.sampled_from(("id", "name", "title", "role", "type", "nth-child", "href")), _text),
    st.none() | _text,
)
_acts = st.builds(
    Act,
    st.sampled_from(("pageview", "pageleave", "click", "change", "submit", "custom", "copy")),
    st.none() | _text,
    st.none() | _text | st.sampled_from(("/a/1", "https://app.test/x?q=1")),
    st.none() | _text,
    st.lists(_elements, max_size=4),
    st.none() | _text,
)


@given(_acts)
def test_labelling_never_raises_and_every_action_has_a_title(act: Act) -> None:
    made = label(act)
    assert made.title.strip() and made.type
    assert len(made.title) <= naming.MAX_TITLE
    assert made.description is not None and len(made.description) <= 2000
    assert label(act) == made
    assert naming.clean(made.title) == made.title  # what is scrubbed stays as it is


@given(st.lists(_acts, max_size=6), st.randoms(use_true_random=False))
def test_no_event_is_lost_and_the_order_of_a_request_changes_nothing(acts: list[Act], chance: Any) -> None:
    items = [seen(act, f"e{n}", START + n * SECOND // 4) for n, act in enumerate(acts)]
    shuffled = list(items)
    chance.shuffle(shuffled)
    one, other = labelling.outside(items, NONE), labelling.outside(shuffled, NONE)
    assert sorted(one.events, key=str) == sorted(other.events, key=str)
    assert len(one.events) + one.merged == len(items)


def test_every_recorded_act_is_labelled_the_same_from_what_is_kept_of_it() -> None:
    flat = RECORDED.parents[1] / "posthog" / "flat.jsonl"
    count = 0
    for line in flat.read_text().splitlines():
        for event in labelling.outside(
            [a.seen for a in posthog.translate(json.loads(line), START).events], NONE
        ).events:
            if isinstance(event.event, events.Action):
                act = posthog.act_again(event.event)
                assert act is not None
                again = labelling.again(act, event.event, NONE, "posthog")
                assert again.title == event.event.title and again.canonical_url == event.event.canonical_url
                count += 1
    assert count == 19


# --- what was typed ------------------------------------------------------------------------------

TYPED = "tYp3d"
_typed = st.text(st.sampled_from('abc "\\;:=.x'), max_size=8).map(lambda text: f"{TYPED}{text}")
_where = st.sampled_from(
    (
        *("value", "$el_value", "attr__value", "[Amplitude] Element Value", "inputValue", "field_value"),
        *("text", "$el_text", "button_or_link_text", "target_text", "[Amplitude] Element Text"),
        *("newValues", "form_data", "inputText"),
    )
)


def _chain_with(typed: str, tag: str) -> str:
    said = typed.replace('"', '\\"')
    return f'{tag}:attr__name="card"attr__value="{said}"nth-child="1"text="{said}";form:attr__id="pay"'


@given(typed=_typed, key=_where, tag=st.sampled_from(("input", "textarea", "select")), deep=st.booleans())
def test_what_was_typed_is_nowhere_in_what_is_stored(typed: str, key: str, tag: str, deep: bool) -> None:
    kept: Mapping[str, Any] = {key: typed, "plan": "pro"}
    chain = _chain_with(typed, tag)
    listed = [
        {"tag_name": tag, "$el_text": typed, "attr__value": typed, "nth_child": 1},
        {"tag_name": "form"},
    ]
    properties = {"nested": [kept]} if deep else {**kept}
    act = Act(
        "change",
        url="https://app.test/pay",
        chain=elements.parse(chain),
        text=typed,
        properties={**properties, "elements_chain": chain},
        body={"$elements": listed, "$elements_chain": chain, **kept},
    )
    stored = label(act)
    assert TYPED not in repr(stored)
    assert stored.title == "card"
    assert stored.body is not None and stored.body["plan"] == "pro"
    assert stored.body["$elements"] == [{"tag_name": tag, "nth_child": 1}, {"tag_name": "form"}]


def test_a_custom_event_keeps_the_value_that_its_host_gave_it() -> None:
    made = label(Act("custom", "order", properties={"value": 12, "text": "x", "$el_value": "4711"}))
    assert made.properties == {"value": 12, "text": "x"}


def test_a_button_keeps_its_text_in_the_chain() -> None:
    chain = 'button:nth-child="1"text="Save";form:attr__id="f"attr_id="f"'
    assert stripping.chain(chain) is chain
    field = 'textarea:attr__name="n"text="typed";button:text="Save"'
    assert stripping.chain(field) == 'textarea:attr__name="n";button:text="Save"'


def test_ends_never_lie_before_their_beginning() -> None:
    made = labelling.outside(recorded(), NONE).events
    for event in made:
        assert isinstance(event.event, events.Action)
        assert event.event.timestamp_end is not None and event.event.timestamp_end >= event.occurred_at
    assert all(first.occurred_at <= second.occurred_at for first, second in pairwise(made))
