"""Data keys: one a person, and what is sealed opens only under its key, at its own event."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.errors import Unreadable
from eventstore import keys
from eventstore.engine import Ledger
from tests.conftest import Run

KEY = bytes(range(32))


def test_a_person_has_one_key_in_each_product(ledger: Ledger, run: Run) -> None:
    async def scenario() -> None:
        async with ledger.transaction() as conn:
            first = await keys.ensure_keys(conn, "acme", ["u", "v", "u"], at=5)
            other = await keys.ensure_keys(conn, "other", ["u"])
        async with ledger.transaction() as conn:
            again = await keys.ensure_keys(conn, "acme", ["v", "u", "w"])
            assert await keys.ensure_keys(conn, "acme", []) == {}
        assert {name: again[name] for name in ("u", "v")} == first
        made = [*again.values(), *other.values()]
        assert len({each.key_id for each in made}) == len({each.key for each in made}) == 4
        async with ledger.reader() as conn:
            found = await keys.load_keys(conn, [first["u"].key_id, "erased"])
        assert found == {first["u"].key_id: first["u"].key}
        assert len(first["u"].key) == 32

    run(scenario())


@given(st.binary(max_size=200), st.binary(max_size=30))
def test_what_is_sealed_opens_again_and_is_never_sealed_twice_the_same(plain: bytes, aad: bytes) -> None:
    sealed = keys.seal(KEY, plain, aad)
    assert keys.unseal(KEY, sealed, aad) == plain
    assert sealed != keys.seal(KEY, plain, aad)


def test_another_key_event_product_or_byte_does_not_open_it() -> None:
    aad = keys.binding("acme", "e-1")
    sealed = keys.seal(KEY, b"ada@example.com", aad)
    assert b"ada" not in sealed
    wrong = [
        (bytes(32), sealed, aad),
        (KEY, sealed, keys.binding("acme", "e-2")),
        (KEY, sealed, keys.binding("acm", "ee-1")),
        (KEY, sealed[:-1] + bytes([sealed[-1] ^ 1]), aad),
        (KEY, sealed[:20], aad),
        (KEY, b"", aad),
    ]
    for each in wrong:
        with pytest.raises(Unreadable):
            keys.unseal(*each)
