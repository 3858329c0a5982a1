"""UUIDv7 texts."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ingest.ids import uuid7

INSTANTS = st.integers(0, 2**48 * 1000 - 1)


def test_the_example_of_rfc_9562_comes_out() -> None:
    # Appendix A.6: 2022-02-22T19:22:22Z; rand_a 0xCC3, rand_b 0x18C4DC0C0C07398F.
    random_bytes = (0xCC3 << 64 | 0x18C4DC0C0C07398F).to_bytes(10)
    assert uuid7(0x017F22E279B0 * 1000 + 999, random_bytes) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(INSTANTS, st.binary(min_size=10, max_size=10))
def test_every_id_is_a_version_7_uuid_that_begins_with_its_millisecond(at: int, random_bytes: bytes) -> None:
    text = uuid7(at, random_bytes)
    made = uuid.UUID(text)
    assert (str(made), made.version, made.variant) == (text, 7, uuid.RFC_4122)
    assert made.int >> 80 == at // 1000


@given(INSTANTS, INSTANTS)
def test_ids_of_later_milliseconds_sort_later(a: int, b: int) -> None:
    if a // 1000 < b // 1000:
        assert uuid7(a, b"\xff" * 10) < uuid7(b, b"\0" * 10)


def test_a_wrong_number_of_random_bytes_is_refused() -> None:
    with pytest.raises(ValueError):
        uuid7(0, b"123456789")
