"""The banks: what is packed comes back, batches depend on nothing but (seed, step, rank), augmentation keeps images
sharp and letters readable, splits are kept apart, and conditions come in the asked shares."""

import json
from dataclasses import replace

import pytest
import torch
from PIL import Image, ImageDraw

from smalti.data.augment import mild, move, resize_exactly
from smalti.data.bank import ImageBank, Item, pack, read_pack
from smalti.data.folder import FIELDS
from smalti.data.tokens_bank import Mix, TokenBank, class_names, encode_texts, wordings
from smalti.files import write_tensors
from smalti.images import Resize, read_images


def folder_of(root, name, images):
    folder = root / name
    (folder / "images").mkdir(parents=True)
    lines = []
    for i, (image, fields) in enumerate(images):
        image.save(folder / "images" / f"{i}.png")
        empty = {key: [] if key == "keywords" else "" for key in FIELDS}
        lines.append(json.dumps({**empty, "file": f"images/{i}.png", **fields}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


def disc(color, size=96):
    image = Image.new("RGB", (size, size), "white")
    ImageDraw.Draw(image).ellipse((20, 20, 75, 75), fill=color)
    return image


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("prepared")
    splits = ["train"] * 8 + ["heldout", "pair"]
    emoji = [
        (
            disc((20 * i, 0, 200)),
            {
                "artist": "noto",
                "class": "round",
                "subclass": "disc" if i < 6 else "ball",
                "caption": f"disc {i}",
                "keywords": ["toy", "sun"],
                "split_tokenizer": split,
                "split_generator": "train" if split == "train" else "pair" if split == "pair" else "unseen",
            },
        )
        for i, split in enumerate(splits)
    ]
    slope = Image.linear_gradient("L").resize((200, 150)).convert("RGB")
    photos = [(slope, {"caption": s, "split_tokenizer": s}) for s in ("train", "heldout")]
    text = [(disc((0, 0, 0)), {"caption": s, "split_tokenizer": s}) for s in ("train", "heldout")]
    return {
        "emoji": folder_of(root, "emoji", emoji),
        "photos": folder_of(root, "photos", photos),
        "text": folder_of(root, "text", text),
    }


@pytest.fixture(scope="module")
def file(folders, tmp_path_factory):
    return pack(folders, tmp_path_factory.mktemp("bank") / "bank.safetensors")


@pytest.fixture(scope="module")
def bank(file):
    return ImageBank.load(file, crops=5, heldout_crops=2)


def test_emoji_come_back_bit_for_bit(bank, folders):
    first = bank.images[0].float() / 255
    assert torch.equal(first[None], read_images(folders["emoji"] / "images" / "0.png"))
    assert bank.items[0].caption == "disc 0"
    assert bank.items[0].keywords == ("toy", "sun")


def test_photos_become_crops(bank):
    assert len(bank.indices("photos", "train")) == 5
    assert len(bank.indices("photos", "heldout")) == 2


def test_exact_is_what_evaluation_sees(bank, folders):
    path = folders["emoji"] / "images" / "3.png"
    torch.testing.assert_close(bank.exact(torch.tensor([3])), read_images(path, size=64, resize=Resize()))


def test_batch_is_a_function_of_its_place(bank, file):
    again = ImageBank.load(file, crops=5, heldout_crops=2)
    batch = bank.batch(7, 16, rank=1)
    assert batch.shape == (16, 3, 64, 64)
    assert float(batch.min()) >= 0
    assert float(batch.max()) <= 1
    assert torch.equal(batch, again.batch(7, 16, rank=1))
    for other in (bank.batch(8, 16, rank=1), bank.batch(7, 16, rank=0)):
        assert not torch.equal(batch, other)


def test_batches_hold_training_images_only(bank):
    train = {bytes(bank.exact(i[None]).numpy()) for i in bank.indices("emoji", "train")}
    drawn = {bytes(x[None].numpy()) for step in range(10) for x in bank.batch(step, 8, mix={"emoji": 1}, exact=1.0)}
    assert drawn <= train
    assert len(drawn) == len(train)


def test_mix_is_kept(bank):
    assert bank.counts(20, {"emoji": 0.7, "photos": 0.15, "text": 0.15}) == {"emoji": 14, "photos": 3, "text": 3}
    assert sum(bank.counts(7, {"emoji": 0.5, "photos": 0.5}).values()) == 7
    with pytest.raises(ValueError, match="no training images"):
        bank.counts(4, {"videos": 1.0})


def test_moving_by_nothing_is_as_sharp_as_a_resize():
    board = torch.zeros(1, 3, 96, 96)
    board[..., ::8, :] = 1
    board[..., 4::12] = 1
    still = {"scale": torch.ones(1), "angle": torch.zeros(1), "shift": torch.zeros(1, 2)}
    moved = move(board, 64, **still)
    plain = resize_exactly((board * 255).to(torch.uint8), 64, Resize())
    assert float(moved.std()) > 0.95 * float(plain.std())
    assert float((moved - plain).abs().mean()) < 0.03


def test_move_goes_where_it_is_told():
    dot = torch.ones(1, 3, 96, 96)
    dot[..., 45:51, 45:51] = 0
    right = move(dot, 64, scale=torch.ones(1), angle=torch.zeros(1), shift=torch.tensor([[0.25, 0.0]]))
    darkest = int(right[0].sum(0).argmin())
    assert abs(darkest % 64 - 47.5) <= 1.5
    assert abs(darkest // 64 - 31.5) <= 1.5
    assert float(right[0, :, :, :8].min()) > 0.99  # what comes in is white


def test_mild_keeps_the_ground_white():
    images = (torch.ones(4, 3, 96, 96) * 255).to(torch.uint8)
    assert float(mild(images, 64, torch.Generator().manual_seed(0)).min()) > 0.999


def test_other_files_are_refused(tmp_path, folders):
    write_tensors(tmp_path / "other.safetensors", {"x": torch.zeros(1)})
    with pytest.raises(ValueError, match="is not a bank"):
        read_pack(tmp_path / "other.safetensors")
    with pytest.raises(FileNotFoundError):
        read_pack(tmp_path / "absent.safetensors")
    with pytest.raises(ValueError, match="videos"):
        pack({"videos": folders["emoji"]}, tmp_path / "b.safetensors")


# ---- tokens ----------------------------------------------------------------------------------------------------------


class Words:
    width = 4

    def encode(self, texts):
        if any("9" in text for text in texts):
            raise ValueError("nothing of this text is understood")
        made = torch.tensor([[len(t), t.count("noto"), t.count("disc"), 1.0] for t in texts])
        return made[:, None], torch.ones(len(texts), 1, dtype=torch.bool)


@pytest.fixture(scope="module")
def tokens(bank):
    emoji = [x for x in bank.items if x.source == "emoji"]
    ids = torch.arange(len(emoji))[None, :, None].expand(3, -1, 5) * 10 + torch.arange(3)[:, None, None]
    mix = Mix(none=0.1, by_class=0.25, by_text=0.4, exact=0.5)
    return TokenBank.build(ids.to(torch.int16), bank, encoder=Words(), captions=4, mix=mix)


def test_token_batch_is_a_function_of_its_place(tokens):
    ids, condition = tokens.batch(3, 32, 1)
    again, same = tokens.batch(3, 32, 1)
    assert ids.dtype == torch.int64
    assert torch.equal(ids, again)
    assert torch.equal(condition.classes, same.classes)
    assert not torch.equal(ids, tokens.batch(4, 32, 1)[0])


def test_conditions_come_in_the_asked_shares(tokens):
    ids, condition = tokens.batch(0, 20_000)
    has_class, has_text = condition.classes >= 0, condition.text_mask[:, 0]
    shares = [float((a & b).float().mean()) for a, b in ((~has_class, ~has_text), (has_class, ~has_text))]
    assert shares == pytest.approx([0.1, 0.25], abs=0.015)
    assert float((~has_class & has_text).float().mean()) == pytest.approx(0.4, abs=0.015)
    assert float((ids[:, 0] % 10 == 0).float().mean()) == pytest.approx(0.5, abs=0.015)  # exact versions
    assert {tokens.classes[c] for c in condition.classes.unique().tolist() if c >= 0} == {"round", "disc", "ball"}


def test_withheld_images_are_never_drawn(tokens):
    ids, _ = tokens.batch(0, 5000)
    seen = set((ids[:, 0] // 10).tolist())
    assert seen == set(range(8))
    assert [int(ids[0, 0]) // 10 for ids, _ in tokens.heldout("pair", 4)] == [9]
    assert [int(ids[0, 0]) // 10 for ids, _ in tokens.heldout("unseen", 4)] == [8]


def test_rare_subcategories_are_drawn_more_often(tokens):
    ids, _ = tokens.batch(0, 20_000)
    rare = float((ids[:, 0] // 10 >= 6).float().mean())  # 2 of 8 images; weights 2 / sqrt 2 against 6 / sqrt 6
    assert rare == pytest.approx(2**0.5 / (2**0.5 + 6**0.5), abs=0.015)


def test_the_condition_is_the_images_own(tokens):
    ids, condition = tokens.batch(1, 500)
    for i in range(500):
        if condition.classes[i] >= 0:
            item = tokens.items[int(ids[i, 0]) // 10]
            assert tokens.classes[int(condition.classes[i])] in (item.category, item.subcategory)


def test_some_captions_name_another_artist(bank):
    emoji = [x for x in bank.items if x.source == "emoji"]
    emoji = [replace(x, artist="twemoji" if i % 2 else "noto") for i, x in enumerate(emoji)]
    bank = ImageBank(bank.images[: len(emoji)], emoji)
    ids = torch.arange(len(emoji))[None, :, None].expand(1, -1, 5).to(torch.int16)
    mix = Mix(none=0, by_class=0, by_text=1, misnamed=0.25)
    tokens = TokenBank.build(ids, bank, encoder=Words(), captions=1, mix=mix)
    drawn, condition = tokens.batch(0, 20_000)
    is_noto = torch.tensor([x.artist == "noto" for x in emoji])[drawn[:, 0]]
    says_noto = condition.text[:, 0, 1] > 0
    assert float((is_noto != says_noto).float().mean()) == pytest.approx(0.25, abs=0.015)
    for shown, asked in tokens.heldout("pair", 4):
        assert (asked.text[:, 0, 1] > 0).tolist() == [emoji[i].artist == "noto" for i in shown[:, 0].tolist()]


def test_wordings_name_the_thing_and_the_style():
    item = Item(source="emoji", artist="fluent3d", caption="flag: Fiji", keywords=("FJ", "island"))
    texts = wordings(item, 8, seed=0)
    assert texts[:2] == ["flag of Fiji, fluent style", "flag of Fiji"]
    assert all("flag of Fiji" in text and ":" not in text and "  " not in text for text in texts)
    assert texts == wordings(item, 8, seed=0)


def test_text_nobody_understands_is_masked():
    features, known = encode_texts(Words(), [["disc", "9"], ["noto disc", "disc"]])
    assert known.tolist() == [[True, False], [True, True]]
    assert features[0, 1].tolist() == [0, 0, 0, 0]
    assert features[1, 0, 1] == 1


def test_classes_are_categories_then_subcategories(bank):
    assert class_names(bank.items) == ("round", "ball", "disc")
