"""Arrays that together keep to what was promised for the sweep."""

import pytest

from anchorflow.sweep.arrays import Array, divide


def test_what_fits_is_one_array() -> None:
    assert divide(8, largest=1000, at_once=3) == [Array(0, 8, 3)]
    assert divide(1, largest=1000, at_once=256) == [Array(0, 1, 256)]


@pytest.mark.parametrize("packs", [1, 7, 10, 11, 99])
@pytest.mark.parametrize("largest", [1, 5, 1000])
@pytest.mark.parametrize("at_once", [1, 2, 7, 256])
def test_every_pack_is_in_one_array_and_no_more_run_at_once_than_allowed(
    packs: int, largest: int, at_once: int
) -> None:
    arrays = divide(packs, largest, at_once)
    assert [pack for array in arrays for pack in range(array.start, array.stop)] == list(range(packs))
    assert all(0 < array.stop - array.start <= largest for array in arrays)
    first = [array for array in arrays if array.after is None]
    assert sum(array.at_once for array in first) == at_once
    waited_for = [array.after for array in arrays if array.after is not None]
    assert len(waited_for) == len(set(waited_for)) == len(arrays) - len(first)
    for number, array in enumerate(arrays):
        if array.after is not None:
            assert array.after < number
            assert array.at_once == arrays[array.after].at_once  # it takes its place
