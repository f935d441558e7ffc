"""Cleaning of captions from the web, as DeepFloyd IF did it and PixArt and LlamaGen took over.

A model trained on captions cleaned so wants its prompts cleaned so too. What is removed: links, markup, names of files
and accounts, article numbers, advertising, CJK ideographs; dashes and quotes become plain. Every rule is kept, sensible
or not (the word "shipping" goes from every text): the models have never seen anything else.
"""

import html
import re
import warnings
from collections.abc import Iterable
from typing import Any
from urllib.parse import unquote_plus

Rule = tuple[re.Pattern[str], str]

_ENDINGS = "png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4"
_DASHES = r"\-\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40"
_DASHES += r"\u301c\u3030\u30a0\ufe31\ufe32\ufe58\ufe63\uff0d"
_SIGNS = r"#®•©™&@·º½¾¿¡§~()\[\]{}|\\/*"


def _rules(*pairs: tuple[str, str]) -> tuple[Rule, ...]:
    return tuple((re.compile(pattern), replacement) for pattern, replacement in pairs)


def _link(scheme: str) -> tuple[str, str]:
    """Of a full address only the scheme and the domain with a plain path go; a domain alone goes too."""
    domain = r"[a-z0-9.\-]+\.(?:com|co|ru|net|org|edu|gov|it)[\w/\-]*\b/?(?!@)"
    return rf"\b(?:{scheme}:(?:/{{1,3}}|[a-z0-9%])|{domain})", ""


_LINKS = _rules(("<person>", "person"), _link("https?"), _link("www"))

_SIGNS_AND_NUMBERS = _rules(
    (r"@\w+\b", ""),  # accounts
    ("[\u31c0-\u9fff]+", ""),  # strokes, enclosed and compatibility signs, ideographs, hexagrams
    (f"[{_DASHES}]+", "-"),
    ("[`´«»“”¨]", '"'),
    ("[‘’]", "'"),
    ("&quot;?", ""),
    ("&amp", ""),
    (r"\d{1,3}(?:\.\d{1,3}){3}", " "),  # network addresses
    (r"\d:\d\d\s+$", ""),  # the end of a time stamp
    (r"\\n", " "),  # a line break that was written out
    (r"#\d{1,3}\b", ""),
    (r"#\d{5,}\b", ""),
    (r"\b\d{6,}\b", ""),
    (rf"\S+\.(?:{_ENDINGS})", ""),  # names of files
    ("[\"']{2,}", '"'),
    (r"\.{2,}", " "),
    (f"[{_SIGNS}]+", " "),
    (r"\s+\.\s+", " "),
)

_JOINED = re.compile("[-_]")  # words-joined-like-this

_CODES_AND_SALES = _rules(
    (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""),  # ab1234
    (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""),  # ab12cd
    (r"\b\d+[a-zA-Z]+\d+\b", ""),  # 12ab34
    (r"(?:worldwide\s+)?(?:free\s+)?shipping", ""),
    (r"(?:free\s)?download(?:\sfree)?", ""),
    (r"\bclick\b\s(?:for|on)\s\w+", ""),
    (rf"\b(?:{_ENDINGS})(?:\simages?)?", ""),
    (r"\bpage\s+\d+\b", ""),
    (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),  # a1b2c3
    (r"\b\d+\.?\d*[xх×]\d+\.?\d*\b", ""),  # 3x4.5, also with a Cyrillic x
    (r"\b\s+:\s+", ": "),
    (r"(\D[,./])\b", r"\1 "),
    (r"\s+", " "),
    (r"^[\"']([\w\W]+)[\"']$", r"\1"),
    (r"^['_,\-:;]", ""),
    (r"['_,\-:+]$", ""),
    (r"^\.\S+$", ""),
)


def clean_caption(text: str) -> str:
    """The text, lower-case and cleaned; the models here were trained on captions that went through this twice.

    Errors: ImportError naming what to install.

    >>> clean_caption("A CAT &amp; a dog -- see www.example.com/cat.jpg (page 12) ©2019")
    'a cat a dog - see . 2019'
    """
    ftfy, soup = _packages()
    text = _apply(_LINKS, unquote_plus(str(text)).strip().lower())
    with warnings.catch_warnings(action="ignore"):  # that a caption looks like a file name or an address
        text = soup(text, features="html.parser").text
    text = _apply(_SIGNS_AND_NUMBERS, text)
    if len(_JOINED.findall(text)) > 3:
        text = _JOINED.sub(" ", text)
    text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
    return _apply(_CODES_AND_SALES, text).strip()


def _apply(rules: Iterable[Rule], text: str) -> str:
    for pattern, replacement in rules:
        text = pattern.sub(replacement, text)
    return text


def _packages() -> tuple[Any, Any]:
    try:
        import ftfy
        from bs4 import BeautifulSoup
    except ImportError as error:
        raise ImportError('cleaning captions needs ftfy and beautifulsoup4: pip install "smalti[text]"') from error
    return ftfy, BeautifulSoup
