"""Proves that the packaged samples are there, readable, licensed, small, and held out of all training."""

from collections import Counter

import pytest
from PIL import Image

from smalti.data import samples
from smalti.data.photos import read_table
from smalti.data.rendered_text import read_words
from smalti.data.sample_images import FOLDER
from smalti.data.splits import ARTISTS, is_unseen

ALL = samples()


def test_kinds_artists_and_size():
    assert Counter(sample.kind for sample in ALL) == {"emoji": 12, "photo": 5, "text": 3}
    assert Counter(sample.artist for sample in samples("emoji")) == dict.fromkeys(ARTISTS, 4)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= 1_000_000
    listed = {sample.path.name for sample in ALL}
    assert listed | {"metadata.jsonl"} == {path.name for path in FOLDER.iterdir()}


@pytest.mark.parametrize("sample", ALL, ids=lambda sample: sample.path.stem)
def test_each_is_a_readable_square_with_a_license(sample):
    with Image.open(sample.path) as image:
        image.load()
        assert (image.mode, image.size) == ("RGB", (256, 256))
        assert len(image.getcolors(256 * 256) or []) > 10
    assert sample.title
    assert sample.attribution
    assert sample.source.startswith(("npm:", "pypi:", "debian:"))
    assert sample.license in {"MIT", "Apache-2.0", "CC-BY-4.0", "CC-BY-2.0", "CC0-1.0", "OFL-1.1"}


def test_emoji_are_code_points_that_nothing_trains_on():
    codepoints = [sample.codepoint for sample in samples("emoji")]
    assert len(set(codepoints)) == 12
    assert all(map(is_unseen, codepoints))


def test_photographs_are_held_out():
    packages, table = read_table()
    split = {f"{packages[photo.package].label}/{photo.path}": photo.split for photo in table}
    assert [split[sample.source] for sample in samples("photo")] == ["heldout"] * 5


def test_words_are_held_out():
    heldout = set(read_words("heldout"))
    for sample in samples("text"):
        words = [word.strip(".,!?").lower() for word in sample.title.split()]
        assert all(word in heldout or word.isdigit() for word in words)
