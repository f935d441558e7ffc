"""Proves that captions are cleaned as the authors of DeepFloyd IF, PixArt and LlamaGen clean them.

The expected texts are outputs of their function, once and twice over.
"""

import sys

import pytest

from smalti.text.captions import clean_caption

CASES = [
    ("A Red APPLE on a table", "a red apple on a table", None),
    ("photo by @jane.doe, see https://www.site.org/a/b.html for more",
     "photo by . doe, see . html for more", "photo by doe, see html for more"),
    ("write to me@mail.com or visit shop.co/deals today", "write to me or visit today", None),
    ("<b>Bold</b> &amp; <i>italic</i> &quot;quoted&quot;", 'bold italic "quoted"', None),
    ("a <person> with a hat", "a person with a hat", None),
    ("dog%20in%20the%20park+tonight", "dog in the park tonight", None),
    ("snow—covered mountains – winter", "snow-covered mountains - winter", None),
    ("“Hello” ‘world’ «bonjour»", "hello\" 'world' \"bonjour", None),
    ("山水画 of a mountain", "of a mountain", None),
    ("server at 192.168.0.1 is down", "server at is down", None),
    ("photo 12 (3).jpg of a cat", "photo 12 of a cat", None),
    ("IMG_20190101_1234.png", "", None),
    ("wow!!! ***SALE*** ... now", "wow!!! sale now", None),
    ("this-is-my-cute-cat-photo", "this is my cute cat photo", None),
    ("up-to-date t-shirt", "up-to-date t-shirt", None),
    ("model AB1234 in blue, ref 12ab34", "model in blue, ref", None),
    ("Free Shipping on all shoes, free download", "on all shoes,", "on all shoes"),
    ("click for details, page 12", "", None),
    ("size 10x20 or 3.5×4", "size or", None),
    ("cafÃ© at the cornerâ€™s end", "cafã at the corner†s end", None),
    ("Ｆｕｌｌ ｗｉｄｔｈ", "full width", None),
    ('"a quoted caption"', "a quoted caption", None),
    ("-starts and ends-", "starts and ends", None),
    (".hidden", "", None),
    ("call 123456789 or #12 now", "call or now", None),
    ("first\\nsecond line", "first second line", None),
    ("one,two.three/four", "one, two. three four", None),
    ("a word : next", "a word: next", None),
    ("naïve café 🎉", "naïve café 🎉", None),
    ("it's 12:34 ", "it's 12:34", None),
]  # fmt: skip


@pytest.mark.parametrize(("text", "once", "twice"), CASES)
def test_as_the_authors(text: str, once: str, twice: str | None) -> None:
    """Some texts change again the second time."""
    assert clean_caption(text) == once
    assert clean_caption(once) == (once if twice is None else twice)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(ImportError, match=r'pip install "smalti\[text\]"'):
        clean_caption("a cat")
