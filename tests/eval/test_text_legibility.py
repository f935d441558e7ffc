"""Proves the arithmetic of legibility on readings whose rates are known by hand."""

import pytest

from smalti.eval.text.legibility import corpus, difference, isotonic, mean, readings, smallest_legible


def test_rates_are_against_known_text() -> None:
    pair = readings(["abcd", "efgh"], ["abcx", "efgh"], ["axxx", "ef"], "cjk")
    assert pair.cer_original == pytest.approx(1 / 8)
    assert pair.cer == pytest.approx(5 / 8)
    assert pair.dcer == pytest.approx(4 / 8)
    assert not pair.measurable
    assert corpus(pair.reconstruction, "word")[0] == 1.0


def test_case_and_white_space_do_not_count() -> None:
    pair = readings(["Two words"], ["twowords"], ["TWO\nwords"], "cjk")
    assert pair.cer == pair.cer_original == 0.0 and pair.measurable


def test_a_reconstruction_that_reads_better_is_negative() -> None:
    assert readings(["abcd"], ["abxx"], ["abcd"], "cjk").dcer == -0.5


def test_sums_are_pooled() -> None:
    one, two = readings(["ab"], ["ab"], ["xx"], "cjk"), readings(["abcdefgh"], ["abcdefgh"], ["abcdefgh"], "cjk")
    assert (one + two).cer == pytest.approx(0.2)


def test_bands_hold_the_value_and_vanish_without_spread() -> None:
    pair = readings(["abcd"] * 20, ["abcd"] * 20, ["abcd", "xbcd"] * 10, "cjk")
    value, low, high = difference(pair)
    assert value == 0.125 and 0 < low < value < high < 0.25
    assert difference(pair) == (value, low, high)
    assert mean([0.5, 0.5]) == (0.5, 0.5, 0.5)


def test_isotonic_fit_never_grows_and_pools_violators() -> None:
    assert isotonic([8, 12, 16, 24], [0.9, 0.1, 0.3, 0.0], [1, 3, 1, 1]) == pytest.approx([0.9, 0.15, 0.15, 0.0])
    assert isotonic([], [], []) == []
    with pytest.raises(ValueError, match="ascending"):
        isotonic([12, 8], [0, 0], [1, 1])


def test_smallest_legible_size() -> None:
    ones = [1.0] * 4
    assert smallest_legible([8, 12, 16, 24], [0.9, 0.05, 0.5, 0.0], ones) == 24
    assert smallest_legible([8, 12, 16, 24], [0.9, 0.1, 0.1, 0.1], ones) == 12
    assert smallest_legible([8, 12, 16, 24], [0.0, 0.0, 0.0, 0.9], ones) is None
    assert smallest_legible([8], [0.0], [1.0]) == 8
