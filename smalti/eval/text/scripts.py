"""Scripts other than Latin: some common characters of each, and where a font for them may lie."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Script:
    """Characters of a script that stand alone (no vowel signs, no ligatures) and are told apart at one glance."""

    name: str
    title: str
    alphabet: tuple[str, ...]
    fonts: tuple[str, ...]
    """How the file names of fonts that have them begin, in lower case, best first."""
    package: str
    """An npm package with an open font."""


SCRIPTS = (
    Script(
        name="chinese",
        title="Chinese",
        alphabet=tuple("的一是不了人我在有他这中大来上国个到说们为子和你地出道也时年得就那要下以生会自着去"),
        fonts=("notosanssc", "notosanscjk", "notoserifcjk", "sourcehansans", "wqy-", "pingfang", "msyh", "simsun"),
        package="@expo-google-fonts/noto-sans-sc",
    ),
    Script(
        name="japanese",
        title="Japanese",
        alphabet=tuple(
            "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふほまみむめもやゆよらりるれろわを日本語"
        ),
        fonts=("notosansjp", "notosanscjk", "notoserifcjk", "ipag", "ipaexg", "takao", "vl-gothic", "msgothic"),
        package="@expo-google-fonts/noto-sans-jp",
    ),
    Script(
        name="korean",
        title="Korean",
        alphabet=tuple("가나다라마바사아자차카타파하고노도로모보소오조구누두루무부수우주한국어글은을이의에서"),
        fonts=("notosanskr", "notosanscjk", "notoserifcjk", "nanumgothic", "malgun", "applesdgothic"),
        package="@expo-google-fonts/noto-sans-kr",
    ),
    Script(
        name="hindi",
        title="Hindi",
        alphabet=tuple("अआइईउऊएओकखगघचछजझटठडढणतथदधनपफबभमयरलवशषसह"),
        fonts=("notosansdevanagari", "notoserifdevanagari", "lohit-devanagari", "mangal", "nirmala", "kohinoor"),
        package="@expo-google-fonts/noto-sans-devanagari",
    ),
)
NAMES = ("latin", *(s.name for s in SCRIPTS))
"""Keys of font paths; "latin" stands in for the font inside Pillow."""


def check_fonts(fonts: Mapping[str, str | Path] | None) -> dict[str, Path]:
    """Font files by script. Errors: ValueError for an unknown script, FileNotFoundError."""
    found = {name: Path(path) for name, path in (fonts or {}).items()}
    if unknown := [name for name in found if name not in NAMES]:
        raise ValueError(f"fonts are given by script; {unknown} unknown, allowed: {', '.join(NAMES)}")
    for name, path in found.items():
        if not path.is_file():
            raise FileNotFoundError(f"no font file {path} for {name}: give the path of a .ttf, .otf or .ttc file")
    return found


def find_font(script: Script) -> Path | None:
    """A font of the script in the system's folders; the first by the order of `script.fonts`, then by path."""
    files = sorted(p for folder in font_folders() for p in folder.rglob("*") if p.suffix.lower() in _SUFFIXES)
    for start in script.fonts:
        fitting = [p for p in files if p.name.lower().startswith(start)]
        if fitting:
            return next((p for p in fitting if "regular" in p.name.lower()), fitting[0])
    return None


def font_folders() -> list[Path]:
    """Where the system and the user keep fonts, as far as they exist."""
    home = Path.home()
    if sys.platform == "win32":
        folders = [Path(os.environ.get("WINDIR", "C:/Windows")) / "Fonts"]
    elif sys.platform == "darwin":
        folders = [Path("/System/Library/Fonts"), Path("/Library/Fonts"), home / "Library/Fonts"]
    else:
        folders = [Path("/usr/share/fonts"), Path("/usr/local/share/fonts"), home / ".local/share/fonts"]
    return [folder for folder in folders if folder.is_dir()]


_SUFFIXES = (".ttf", ".otf", ".ttc")
