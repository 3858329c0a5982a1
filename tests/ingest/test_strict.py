"""Strict JSON: what is taken equals what the standard library reads; the rest is refused with its path."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from api.ingest import strict
from domain.errors import Fault, InvalidInput

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | st.sampled_from(
    ['":', '": ', '\\":', "a : b", '{"a":1}', "\\u0000", "\\ud800", "12:34"]
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
VALUES = st.recursive(SCALARS, lambda v: st.lists(v, max_size=5) | st.dictionaries(TEXT, v, max_size=5))
STYLES: list[dict[str, Any]] = [
    {},
    {"separators": (",", ":"), "ensure_ascii": False},
    {"indent": 2},
    {"separators": (" , ", "\t:\n")},
]


def faults(body: bytes) -> list[Fault]:
    with pytest.raises(InvalidInput) as caught:
        strict.loads(body)
    return list(caught.value.faults)


def paths(body: bytes) -> list[str]:
    return [fault.path for fault in faults(body)]


@given(VALUES, st.sampled_from(STYLES))
@example({"a": '":', "b": '{"c":1}'}, {})
def test_any_json_value_is_read_as_the_standard_library_reads_it(value: Any, style: dict[str, Any]) -> None:
    text = json.dumps(value, **style)
    read = strict.loads(text.encode())
    assert read == json.loads(text)
    assert repr(read) == repr(json.loads(text))  # 1, 1.0 and True are different things


def nested(depth: int, inside: str, as_object: bool) -> str:
    return '{"k":' * depth + inside + "}" * depth if as_object else "[" * depth + inside + "]" * depth


@given(VALUES, TEXT, st.integers(0, 20), st.booleans(), st.sampled_from(["", " ", "\n", " \t"]))
def test_duplicate_keys_are_found_at_any_depth(
    value: Any, key: str, depth: int, as_object: bool, space: str
) -> None:
    name, inner = json.dumps(key), json.dumps(value)
    twice = f'{{{name}{space}:1,"__other":{inner},{name}:2}}'
    assert "the key is given twice" in {f.detail for f in faults(nested(depth, twice, as_object).encode())}


def test_a_duplicate_is_not_hidden_by_a_text_that_looks_like_a_key() -> None:
    # As many `":` as keys in the value: `"a" :` does not count, but the text does.
    assert paths(rb'{"a" :1,"a":2,"x":"\":"}') == ["a"]
    assert paths(rb'{"a":1,"\u0061":2}') == ["a"]


def test_paths_lead_through_lists_and_objects() -> None:
    body = b'{"events":[{},{},{},{"data":{"title":"a","title":"b"}}]}'
    assert faults(body) == [Fault("events[3].data.title", "the key is given twice")]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b'{"a":1,}',
        b"{'a':1}",
        b'"\x01"',
        b'"\x00"',
        b"\x00",
        b"01",
        b"[1,]",
        b'"\\x"',
        b"nul",
        b"1 2",
    ],
)
def test_malformed_json_is_refused_with_line_and_column(body: bytes) -> None:
    (fault,) = faults(body)
    assert fault.path == "" and "line 1 column" in fault.detail


def test_the_line_of_malformed_json_is_counted() -> None:
    (fault,) = faults(b'{"a": 1,\n "b": oops}')
    assert "line 2 column 7" in fault.detail


@pytest.mark.parametrize("body", [b'"\xff"', b'"\xed\xa0\x80"', b"\xef\xbb\xbf{}"])
def test_what_is_not_utf8_and_a_byte_order_mark_are_refused(body: bytes) -> None:
    assert paths(body) == [""]


@pytest.mark.parametrize(
    "escape", ["\\u0000", "a\\u0000b", "\\ud800", "\\uDFFF", "\\udc00\\ud800", "\\ud83dx"]
)
def test_nul_and_lone_surrogates_are_refused_in_texts_and_in_keys(escape: str) -> None:
    assert paths(f'{{"a":[1,"{escape}"]}}'.encode()) == ["a[1]"]
    (path,) = paths(f'{{"a":{{"{escape}":1}}}}'.encode())
    assert path.startswith("a.") and path.isprintable() and path.encode()


def test_escapes_that_only_look_dangerous_are_taken() -> None:
    assert strict.loads(rb'["\ud83d\ude00","\\u0000","\\ud800","\u00e9"]') == [
        "😀",
        "\\u0000",
        "\\ud800",
        "é",
    ]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e999"])
def test_nan_and_infinities_are_refused_where_they_stand(number: str) -> None:
    assert paths(f'{{"a":[0,{number}]}}'.encode()) == ["a[1]"]


INTEGERS = [
    str(2**53 + 1),
    str(-(2**53) - 1),
    str(2**63),
    str(2**64),
    str(10**30),
    "1" * 400,
    "-" + "9" * 5000,
]


@pytest.mark.parametrize("number", INTEGERS, ids=lambda number: str(len(number)))
def test_integers_that_would_lose_digits_are_refused(number: str) -> None:
    (fault,) = faults(f'{{"n":{number}}}'.encode())
    assert fault.path == "n" and "2^53" in fault.detail


def test_the_largest_integers_and_large_floats_are_taken() -> None:
    values = [2**53, -(2**53), 0, -0.0, 1e300, 2.0**60]
    read = strict.loads(json.dumps(values).encode())
    assert read == values and [type(v) for v in read] == [int, int, int, float, float, float]
    assert math.copysign(1, read[3]) == -1


@pytest.mark.parametrize("as_object", [True, False])
def test_nesting_is_taken_to_32_and_refused_beyond(as_object: bool) -> None:
    assert strict.loads(nested(32, "", False).encode()) is not None
    for depth, inside in ((31, "{}"), (31, '{"a":1}'), (32, "1")):
        assert strict.loads(nested(depth, inside, as_object).encode()) is not None
    for depth, inside in ((32, "{}"), (32, "[]"), (33, "1"), (500, "1"), (5000, "1"), (200_000, "1")):
        (fault,) = faults(nested(depth, inside, as_object).encode())
        assert "deeper than 32" in fault.detail


def test_many_faults_are_named_but_not_without_end() -> None:
    assert len(faults(b"[" + b"NaN," * 5000 + b"NaN]")) == strict.MAX_FAULTS


def test_good_input_does_not_take_the_long_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("took the long way")

    monkeypatch.setattr(strict, "_exact", fail)
    event = {
        "type": "action",
        "occurred_at": "2026-05-19T11:07:19.847Z",
        "data": {"raw_url": "https://a/b", "é": 1.5},
    }
    for body in (
        orjson.dumps({"events": [event] * 10}),
        json.dumps({"events": [event] * 10}, indent=1).encode(),
    ):
        assert strict.loads(body) == {"events": [event] * 10}
