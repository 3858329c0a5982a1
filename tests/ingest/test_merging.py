"""What of a user's events is one act: by recorded chains of posthog-js 1.449.2, and by laws."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ingest import elements, labelling, merging
from api.ingest.acts import Act, Seen
from api.ingest.merging import Trace
from domain import events
from domain.config_labels import Labels

RECORDED = Path(__file__).parent.parent / "data" / "labelling" / "events.jsonl"
START = 1_800_000_000_000_000
MS = 1000
NONE = Labels()


def chains(kind: str) -> list[str]:
    found = []
    for line in RECORDED.read_text().splitlines():
        own = json.loads(line)["properties"]
        if own.get("$event_type") == kind:
            found.append(own["$elements_chain"])
    return found


BOX = next(chain for chain in chains("change") if "search-form" in chain)
BUTTON = next(chain for chain in chains("click") if "search-form" in chain)
(FORM,) = chains("submit")
CHECKBOX = next(chain for chain in chains("click") if 'type="checkbox"' in chain)
NAME = next(chain for chain in chains("change") if "pname" in chain)
SAVE = next(chain for chain in chains("click") if "save-changes" in chain)


def event(kind: str, chain: str, ms: int, event_id: str | None = None, **changes: Any) -> Seen:
    own = {"url": "https://app.test/projects", "session": "s", "source": "posthog", **changes}
    at = START + ms * MS
    act = Act(kind, url=own["url"], chain=elements.parse(chain), properties={"elements_chain": chain})
    name = event_id or f"{kind}-{ms}"
    return Seen(act, name, own["session"], "u", at, at, None, None, False, own["source"])


def told(*items: Seen) -> list[tuple[str, str, str]]:
    """(id, type, title) of each action."""
    made = labelling.outside(items, NONE).events
    return [
        (e.event_id or "", e.event.type, e.event.title) for e in made if isinstance(e.event, events.Action)
    ]


def test_enter_in_a_search_box_is_one_submit_that_names_its_events() -> None:
    enter = [event("change", BOX, 0), event("click", BUTTON, 2), event("submit", FORM, 5)]
    labelled = labelling.outside(enter, NONE)
    (made,) = labelled.events
    assert isinstance(made.event, events.Action)
    assert (made.event_id, made.occurred_at) == ("change-0", START)  # the earliest
    assert (made.event.type, made.event.title) == ("submit", "Search")  # the end, and the button's words
    assert made.event.description == "User submitted Search on Projects"
    assert made.event.body == {
        "merged": [
            {"id": "change-0", "kind": "change"},
            {"id": "click-2", "kind": "click"},
            {"id": "submit-5", "kind": "submit"},
        ]
    }
    assert made.event.properties == {"elements_chain": BUTTON}  # by which it is named
    assert labelled.merged == 2


@pytest.mark.parametrize(
    ("items", "wanted"),
    [
        # A checkbox; a button of a form, pressed by hand; Enter where no button is.
        ([event("click", CHECKBOX, 0), event("change", CHECKBOX, 4)], ["click"]),
        ([event("click", BUTTON, 0), event("submit", FORM, 3)], ["submit"]),
        ([event("change", BOX, 0), event("submit", FORM, 3)], ["submit"]),
        ([event("change", BOX, 0), event("click", BUTTON, 120), event("submit", FORM, 125)], ["submit"]),
        # Enter where the page sends nothing: the browser pressed the button, faster than a hand.
        ([event("change", BOX, 0), event("click", BUTTON, 2)], ["click"]),
        # Twice.
        (
            [event("click", BUTTON, 0), event("submit", FORM, 1)] * 1 + [event("click", BUTTON, 90)],
            ["submit", "click"],
        ),
        (
            [
                *(event("click", BUTTON, 0), event("submit", FORM, 1)),
                *(event("click", BUTTON, 90), event("submit", FORM, 91)),
            ],
            ["submit", "submit"],
        ),
        # Two acts: filling in and saving; another form; another page, session or source; too late; too early.
        ([event("change", NAME, 0), event("click", SAVE, 6)], ["change", "click"]),
        ([event("change", BOX, 0), event("click", BUTTON, 120)], ["change", "click"]),
        ([event("click", SAVE, 0), event("submit", FORM, 3)], ["click", "submit"]),
        ([event("click", BUTTON, 0), event("submit", FORM, 3, url="/b")], ["click", "submit"]),
        ([event("click", BUTTON, 0), event("submit", FORM, 3, session="t")], ["click", "submit"]),
        ([event("click", BUTTON, 0), event("submit", FORM, 3, session=None)], ["click", "submit"]),
        ([event("click", BUTTON, 0), event("submit", FORM, 1001)], ["click", "submit"]),
        ([event("submit", FORM, 0), event("click", BUTTON, 1)], ["submit", "click"]),
        ([event("change", CHECKBOX, 0), event("click", CHECKBOX, 4)], ["change", "click"]),
        # A click on a field in the form is not what sends it.
        ([event("click", BOX, 0), event("submit", FORM, 500)], ["click", "submit"]),
    ],
)
def test_what_is_one_act_and_what_is_two(items: list[Seen], wanted: list[str]) -> None:
    assert [kind for _, kind, _ in told(*items)] == wanted


def test_an_id_that_comes_twice_in_a_request_is_one_event() -> None:
    labelled = labelling.outside([event("click", BUTTON, 0), event("click", BUTTON, 0)], NONE)
    assert (len(labelled.events), labelled.merged, labelled.repeated) == (1, 0, 1)


def test_elements_of_one_place_are_told_from_their_neighbours() -> None:
    first = 'button:nth-child="1"text="Save";form:nth-child="1";body:nth-child="2"'
    second = 'button:nth-child="1"text="Save";form:nth-child="2";body:nth-child="2"'
    form = 'form:nth-child="1";body:nth-child="2"'
    assert len(told(event("click", first, 0), event("submit", form, 1))) == 1
    assert len(told(event("click", second, 0), event("submit", form, 1))) == 2


# --- laws ----------------------------------------------------------------------------------------

_traces = st.lists(
    st.builds(
        Trace,
        at=st.integers(0, 2_000).map(lambda ms: START + ms * MS),
        event_id=st.just(""),
        kind=st.sampled_from((*merging.KINDS, "pageview", "custom")),
        source=st.just("posthog"),
        session_id=st.sampled_from(("s", "t")),
        page=st.sampled_from(("/a", "/b")),
        target=st.sampled_from((None, 1, 2)),
        form=st.sampled_from((None, 7)),
        presses=st.booleans(),
        submits=st.booleans(),
    ),
    max_size=12,
).map(lambda listed: [trace._replace(event_id=f"e{n}") for n, trace in enumerate(listed)])


@given(_traces, st.randoms(use_true_random=False))
def test_every_event_is_in_one_act_whatever_the_order(traces: list[Trace], chance: Any) -> None:
    acts = merging.together(traces)
    assert sorted(trace for act in acts for trace in act) == sorted(traces)
    shuffled = list(traces)
    chance.shuffle(shuffled)
    assert sorted(merging.together(shuffled)) == sorted(acts)


@given(_traces)
def test_an_act_has_an_event_of_each_kind_at_most_of_one_session_and_page(traces: list[Trace]) -> None:
    for act in merging.together(traces):
        kinds = [trace.kind for trace in act]
        assert len(set(kinds)) == len(kinds)
        assert len({(trace.session_id, trace.source, trace.page) for trace in act}) == 1
        assert len(act) == 1 or {"change", "click", "submit"}.issuperset(kinds)
        assert act[-1].at - act[0].at <= 2 * merging.WITHIN


@given(st.lists(st.integers(0, 3_000), min_size=1, max_size=20))
def test_as_many_clicks_as_there_were_stay(instants: list[int]) -> None:
    clicks = [event("click", BUTTON, ms, f"c{n}") for n, ms in enumerate(instants)]
    submits = [event("submit", FORM, ms + 1, f"s{n}") for n, ms in enumerate(instants)]
    assert len(told(*clicks)) == len(clicks)
    assert len(told(*clicks, *submits)) == len(clicks)
