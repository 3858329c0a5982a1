"""PostHog's elements chain, as recorded and as garbage."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ingest import elements, stripping

RECORDED = Path(__file__).parent.parent / "data" / "posthog" / "elements-chains.txt"
CHAINS = [line.split("\t")[1] for line in RECORDED.read_text().splitlines()]


def test_there_are_recorded_chains() -> None:
    assert len(CHAINS) == 14


def written(element: elements.Element) -> str:
    """The chain's form of an element, by the grammar of the client that writes it."""
    attributes = dict(element.attributes)
    keys: dict[str, str] = {}
    for name, value in attributes.items():
        keys[name if name.startswith("nth-") else f"attr__{name}"] = value
    if "id" in attributes:
        keys["attr_id"] = attributes["id"]
    if "href" in attributes:
        keys["href"] = attributes["href"]
    if element.text is not None:
        keys["text"] = element.text
    body = "".join(
        f'{key}="{keys[key]}"'.replace('"', '\\"').replace('=\\"', '="', 1)[:-2] + '"' for key in sorted(keys)
    )
    return ".".join([element.tag, *element.classes]) + ":" + body


@pytest.mark.parametrize("chain", CHAINS)
def test_every_recorded_chain_is_read_without_loss(chain: str) -> None:
    parsed = elements.parse(chain)
    assert ";".join(map(written, parsed)) == chain
    assert parsed[-1].tag == "body"


def test_semicolons_quotes_and_colons_inside_values_do_not_split() -> None:
    by_label = {
        e[0].attributes.get("aria-label") or e[0].attributes.get("title"): e
        for e in map(elements.parse, CHAINS)
    }
    assert by_label["Delete Café; São;Paulo"][0].text is None
    edit = by_label['Edit "Borealis "B2""'][0]
    assert (edit.tag, edit.classes, edit.text) == ("button", ("btn", "btn-sm", "btn:edit"), "Edit")


def test_the_target_comes_first_then_its_ancestors() -> None:
    chain = next(chain for chain in CHAINS if chain.startswith("span.icon"))
    assert [e.tag for e in elements.parse(chain)] == ["span", "button", "main", "body"]
    assert [e.text for e in elements.parse(chain)[:2]] == ["⬇", "⬇ Export CSV"]


def test_a_value_that_ends_in_a_backslash_ends_where_the_next_key_begins() -> None:
    first, second = elements.parse(
        'a:attr__title="C:\\"nth-child="1"text="Go \\"on\\"";div.x:attr__data-a="\\"'
    )
    assert (first.attributes["title"], first.text) == ("C:\\", 'Go "on"')
    assert second.attributes == {"data-a": "\\"}
    parsed = elements.parse('b:text="dir\\";form:attr__id="f"attr_id="f"')
    assert [(e.tag, e.text) for e in parsed] == [("b", "dir\\"), ("form", None)]


@pytest.mark.parametrize("chain", ["", ";", ";;;", ":", '"', '="', 'a="', "\\", '""""', ".", "\0"])
def test_garbage_gives_at_most_one_empty_element_and_no_exception(chain: str) -> None:
    assert all(not e.attributes.get("id") and e.text is None for e in elements.parse(chain))


@pytest.mark.parametrize("chain", ["main", "main:", "main.a", 'main:nth-child="1'])
def test_an_element_without_attributes_or_cut_short_still_has_its_tag(chain: str) -> None:
    assert [e.tag for e in elements.parse(chain)] == ["main"]


@given(st.text(st.sampled_from('ab.:;="\\ -_\n') | st.characters(), max_size=300))
def test_no_text_raises(chain: str) -> None:
    elements.parse(chain)


@given(st.sampled_from(CHAINS), st.integers(0, 800), st.integers(0, 800))
def test_any_part_of_a_recorded_chain_is_read_somehow(chain: str, start: int, end: int) -> None:
    for element in elements.parse(chain[start:end]):
        assert isinstance(element.tag, str)


def test_what_is_beyond_the_cap_is_not_looked_at() -> None:
    chain = 'div:text="x";' * 5000
    assert len(elements.parse(chain)) <= elements.MAX_CHARS // 12
    assert len(elements.parse("a" * elements.MAX_CHARS + ';b:text="x"')) == 1


@pytest.mark.parametrize("piece", ['\\"', '\\";', ":", 'a:b="', ";", '="', '\\";a:', "a:"])
def test_hostile_chains_take_little_time(piece: str) -> None:
    elements.parse('div:text="' + piece * elements.MAX_CHARS)
    elements.parse(piece * elements.MAX_CHARS)


def test_a_class_may_hold_what_separates_classes_and_elements() -> None:
    chain = (
        'a.md:flex.w-1.5;x:attr__class="md:flex w-1.5;x"nth-child="1";nav.nav:attr__class="nav"nth-child="2"'
    )
    assert [(e.tag, e.classes) for e in elements.parse(chain)] == [
        ("a", ("md:flex", "w-1.5;x")),
        ("nav", ("nav",)),
    ]


CHARS = st.text(st.sampled_from('ab.:;="\\ -_é'), max_size=12)
ELEMENTS = st.lists(
    st.builds(
        lambda tag, values, text: elements.Element(tag, (), {**values, "nth-child": "1"}, text),
        st.sampled_from(["a", "button", "svg", "my-tag"]),
        st.dictionaries(st.sampled_from(["title", "aria-label", "data-attr", "id", "href"]), CHARS),
        st.none() | CHARS,
    ),
    max_size=4,
)


LIKE_A_KEY = re.compile(r'"([^"]*:)?[A-Za-z0-9_-]+=\Z')


@given(ELEMENTS)
def test_what_was_written_is_read_again(chain: list[elements.Element]) -> None:
    """Only what a backslash stands before cannot be told, as nothing escapes it, nor what ends like a key."""
    values = [v for e in chain for v in (*e.attributes.values(), e.text or "")]
    if not any('\\"' in value or value.endswith("\\") or LIKE_A_KEY.search(value) for value in values):
        assert elements.parse(elements.written(chain)) == chain


@pytest.mark.parametrize(
    "raw", [None, 5, {}, [5, None], [{}], [{"tag_name": 5, "attr__id": [], "classes": "x"}]]
)
def test_a_list_of_anything_is_read_without_an_exception(raw: object) -> None:
    for element in elements.listed(raw):
        assert element == elements.Element("", (), {}, None)


def test_what_was_typed_or_chosen_is_taken_out_and_what_a_button_says_stays() -> None:
    chain = (
        'input:attr__type="range"attr__aria-valuenow="7"attr__value="7"attr__name="volume";'
        'textarea:text="dear diary";div:attr__contenteditable="true"text="dear diary";'
        'input:attr__type="submit"attr__value="Send";button:attr__value="v"text="Go"'
    )
    clean = elements.without_values(elements.parse(chain))
    assert [(e.tag, e.text) for e in clean] == [
        ("input", None),
        ("textarea", None),
        ("div", None),
        ("input", "Send"),
        ("button", "Go"),
    ]
    assert dict(clean[0].attributes) == {"type": "range", "name": "volume"}
    assert elements.parse(elements.written(clean)) == clean
    assert elements.without_values(clean) is clean


@pytest.mark.parametrize(
    "chain",
    [
        'p:text="dear diary";div.editor:attr__contenteditable="true";main:',
        'span:text="dear diary";p:text="dear diary";div:attr__role="searchbox";main:',
        'div:attr__contenteditable="TRUE"text="dear diary"',
        'input:attr__type="text"attr__data-value="dear diary"attr__data-selected-values="dear diary"',
        'option:text="dear diary";select:',
        'button:text="Send";div:attr__data-initial-value="dear diary"',
        'b:text="dear diary";p:;div:attr__contenteditable="plaintext-only"',
    ],
)
def test_what_was_typed_is_nowhere_in_what_is_kept(chain: str) -> None:
    clean = elements.without_values(elements.parse(chain))
    assert "diary" not in elements.written(clean)
    assert "diary" not in stripping.chain(chain)


def test_an_island_in_an_editor_is_no_part_of_it() -> None:
    chain = elements.parse(
        'button:text="Bold";div:attr__contenteditable="false";div:attr__contenteditable="true"'
    )
    assert elements.without_values(chain) is chain
    assert not elements.in_field(chain)
