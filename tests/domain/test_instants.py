"""Instants that nobody means, as only a sender that errs or means harm writes them."""

from __future__ import annotations

import pytest

from domain import instants


@pytest.mark.parametrize(
    "value", [1.8e302, -1.8e302, "1e302", "9" * 5_000, "1." + "9" * 5_000, "1e" + "9" * 400]
)
def test_numbers_beyond_measure_are_refused_in_our_own_words(value: object) -> None:
    with pytest.raises(ValueError, match=r"UNIX seconds|before 1970"):
        instants.parse(value)
