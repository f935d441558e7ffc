"""Proves that the packaged text encoder is offline, deterministic and forgiving, and says what it does not know."""

import json
import warnings
from pathlib import Path

import pytest
import torch

import smalti.text
from smalti.data.tokens_bank import STYLES
from smalti.text import packaged
from smalti.text.words import WordEncoder, singulars, split_words

FOLDER = Path(smalti.text.__file__).parents[1] / "weights" / "words"


def cosine(a: str, b: str) -> float:
    """Similarity of two texts."""
    features, _ = packaged().encode([a, b])
    return float(torch.cosine_similarity(features[0, 0], features[1, 0], dim=0))


def test_shape_type_and_scale() -> None:
    """[B, 1, F] float32 with unit RMS, mask [B, 1] all True."""
    features, mask = packaged().encode(["red apple", "flag of Fiji, twemoji style", "a"])
    assert features.shape == (3, 1, packaged().width)
    assert features.dtype == torch.float32
    assert mask.shape == (3, 1)
    assert mask.dtype == torch.bool
    assert mask.all()
    torch.testing.assert_close(features.square().mean(-1), torch.ones(3, 1))


def test_a_text_alone_is_as_in_a_batch() -> None:
    """Encoding does not depend on the neighbors."""
    texts = ["red apple", "smiling cat", "keycap: #"]
    together, _ = packaged().encode(texts)
    alone = torch.cat([packaged().encode([text])[0] for text in texts])
    assert torch.equal(together, alone)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("red apple", "Red, APPLE!?".replace("!?", "")),
        ("guitar", "guitars"),
        ("fox", "foxes"),
        ("pinata", "Piñata"),
        ("woman's hat", "woman\u2019s hat"),
    ],
)
def test_spelling_that_does_not_matter(a: str, b: str) -> None:
    """Case, punctuation, accents, plurals and possessives."""
    assert cosine(a, b) > 0.999


def test_meaning() -> None:
    """Near words are nearer than far ones, and articles hardly count."""
    assert cosine("puppy", "dog") > cosine("puppy", "fire truck") + 0.2
    assert cosine("a red apple", "red apple") > 0.95
    assert cosine("red apple, noto style", "red apple, twemoji style") < 0.98, "the artist must be audible"


def test_words_that_prompts_need() -> None:
    """Artists, colors and ordinary nouns are in the table."""
    for word in (*STYLES.values(), "style", "crimson", "spaceship", "kitten", "golden", "striped", "a", "7", "#"):
        assert packaged().find(word) is not None, word


def test_unknown_words_are_named() -> None:
    """A warning names what is left out and near words; the rest counts as usual."""
    with pytest.warns(UserWarning, match=r"applle \(near: .*apple.*\).*qzxv"):
        features, _ = packaged().encode(["red applle qzxv"])
    assert torch.equal(features, packaged().encode(["red"])[0])


def test_known_words_do_not_warn() -> None:
    """A plain caption is silent."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        packaged().encode(["grinning face with big eyes, fluent style"])


@pytest.mark.parametrize("text", ["", "   ", " ,.;-"])
def test_empty_text_is_an_error(text: str) -> None:
    """No words, no picture."""
    with pytest.raises(ValueError, match="has no words"):
        packaged().encode(["red apple", text])


def test_text_of_unknown_words_is_an_error_with_near_words() -> None:
    """Nothing understood: says so and helps."""
    with pytest.raises(ValueError, match=r"knows no word of 'applle'.*apple"):
        packaged().encode(["applle"])
    with pytest.raises(ValueError, match="plain English"):
        packaged().encode(["qzxvqzxv"])


def test_a_string_instead_of_a_list_is_an_error() -> None:
    """Or else each letter would be a text."""
    with pytest.raises(ValueError, match=r"\['red apple'\]"):
        packaged().encode("red apple")  # type: ignore[arg-type]


def test_order_and_repetition() -> None:
    """The mean of words: order does not count."""
    assert cosine("dog house", "house dog") > 0.9999


def test_a_folder_that_holds_no_table(tmp_path: Path) -> None:
    """Says how one is made."""
    with pytest.raises(FileNotFoundError, match=r"smalti\.text\.distill"):
        WordEncoder.load(tmp_path)


def test_the_table_is_small_and_sound() -> None:
    """At most 1 MB, no word twice, finite, every word found and split as itself."""
    assert sum(file.stat().st_size for file in FOLDER.iterdir()) <= 1_000_000
    words = json.loads((FOLDER / "vocabulary.json").read_text())
    assert len(set(words)) == len(words) == len(packaged().vectors_VF)
    assert packaged().vectors_VF.isfinite().all()
    assert (packaged().weights_V > 0).all()
    assert [w for w in words if split_words(w) != [w]] == []


def test_singulars_do_not_touch_short_words() -> None:
    """`bus` and `glass` are no plurals; `gas` is three letters."""
    assert singulars("glass") == []
    assert singulars("gas") == []
    assert singulars("apples") == ["apple"]
