"""Proves that a T5 in a folder becomes a text encoder: features laid out as the authors do it, errors that say what to
do, and a generator that is asked by text from end to end.
"""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, T5EncoderModel

import smalti
from smalti.generators.llamagen.config import LlamaGenConfig
from smalti.hub import registry
from smalti.hub.registry import Entry, LocalFile, register
from smalti.hub.saving import save_official, save_pretrained
from smalti.pipeline import ImageGenerator
from smalti.text.t5 import T5, T5Text, left_padded
from tests.text.t5_folder import save_tiny_t5
from tests.tiny.llamagen import tiny_llamagen_generator, tiny_llamagen_tokenizer

LENGTH = 7
TEXTS = ["a red apple", "the blue dog on the table", "dog"]
TINY = T5(length=LENGTH, dtype="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny T5 on disk."""
    return save_tiny_t5(tmp_path_factory.mktemp("t5"))


def reference(folder: Path, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Features and mask as the authors make them: everything padded on the right to the full length."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), T5EncoderModel.from_pretrained(folder)
    batch = tokenizer(texts, max_length=LENGTH, padding="max_length", truncation=True, return_tensors="pt")
    with torch.no_grad():
        features = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
    return features, batch["attention_mask"].bool()


def test_features_are_the_models(folder: Path) -> None:
    """Padding on either side; computing fewer places than the full length changes nothing."""
    features, mask = reference(folder, TEXTS)
    right = T5Text(replace(TINY, left_padded=False), source=folder)
    got, got_mask = right.encode(TEXTS)
    assert torch.equal(got_mask, mask) and mask.sum(1).tolist() == [4, LENGTH, 2]
    assert torch.allclose(got[mask], features[mask], atol=1e-5) and not got[~mask].any()
    left, left_mask = T5Text(TINY, source=folder).encode(TEXTS)
    assert left_mask.sum(1).tolist() == mask.sum(1).tolist() and left_mask[:, -1].all()
    for i, count in enumerate(mask.sum(1).tolist()):
        assert torch.allclose(left[i, -count:], features[i, :count], atol=1e-5)
        assert not left[i, :-count].any()
    assert right.width == 8 and left.dtype == torch.float32


def test_left_padding_of_features() -> None:
    """Rows without padding stay, whatever stood in the padding is gone."""
    features = torch.arange(1, 13).view(2, 3, 2).float()
    mask = torch.tensor([[True, False, False], [True, True, True]])
    moved, flipped = left_padded(features, mask)
    assert flipped.tolist() == [[False, False, True], [True, True, True]]
    assert moved[0].tolist() == [[0, 0], [0, 0], [1, 2]] and torch.equal(moved[1], features[1])


def test_long_texts_are_cut_with_a_warning(folder: Path) -> None:
    """The end sign stays."""
    encoder = T5Text(replace(TINY, left_padded=False), source=folder)
    long = "the blue dog on the table , a red apple"
    with pytest.warns(UserWarning, match="11 tokens is cut to 7"):
        features, mask = encoder.encode([long])
    assert mask.all() and torch.allclose(features, reference(folder, [long])[0], atol=1e-5)


def test_cleaning_is_an_option(folder: Path) -> None:
    """Without it the text is taken as it is, also an empty one."""
    clean, plain = T5Text(TINY, source=folder), T5Text(replace(TINY, clean=False), source=folder)
    assert torch.equal(clean.encode(["A RED apple &amp; www.site.com"])[0], clean.encode(["a red apple"])[0])
    assert not torch.equal(plain.encode(["A RED apple"])[0], plain.encode(["a red apple"])[0])
    assert plain.encode([""])[1].sum() == 1
    with pytest.raises(ValueError, match=r"cleaning leaves nothing of the text 'IMG_1\.png'"):
        clean.encode(["a red apple", "IMG_1.png"])
    with pytest.raises(ValueError, match="texts is a list"):
        clean.encode("a red apple")  # type: ignore[arg-type]
    assert clean.encode([])[0].shape == (0, LENGTH, 8)


def test_precision_and_fingerprint(folder: Path, tmp_path: Path) -> None:
    """bfloat16 is near float32; the fingerprint is that of the weights."""
    exact, rough = T5Text(TINY, source=folder), T5Text(replace(TINY, dtype="bfloat16"), source=folder)
    a, b = exact.encode(TEXTS)[0], rough.encode(TEXTS)[0]
    assert 0 < (a - b).abs().max() < 0.1 * a.abs().max()
    other = T5Text(TINY, source=save_tiny_t5(tmp_path / "other", seed=1))
    assert exact.fingerprint == T5Text(TINY, source=folder).fingerprint != other.fingerprint


def test_nothing_is_read_before_it_is_needed_and_then_errors_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path
) -> None:
    """No network, a folder without a T5, a package that is missing, settings that cannot be."""
    with pytest.raises(ValueError, match=r"T5 encoder google/flan-t5-xl, which could not be loaded.*text_encoder="):
        T5Text().encode(["a red apple"])
    with pytest.raises(ValueError, match="does not hold a T5"):
        T5Text(source=tmp_path).encode(["a red apple"])
    with pytest.raises(ValueError, match=r"T5 encoder /nowhere \(google/flan-t5-xl\), which could not be loaded"):
        T5Text(source="/nowhere").encode(["a red apple"])
    with pytest.raises(ValueError, match="at least 1 token"):
        T5(length=0)
    with pytest.raises(ValueError, match="float32 or bfloat16"):
        T5(dtype="float16")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    assert T5Text(TINY, source=folder).encode(["a red apple"])[1].any()  # this one is not needed for tokenizer.json
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(ValueError, match=r"does not hold a T5.*has \d+ tokens, the model 313"):
        T5Text(TINY, source=tmp_path).encode(["a red apple"])
    (tmp_path / "spiece.model").write_bytes(b"a model")
    with pytest.raises(ImportError, match=r'sentencepiece and protobuf: pip install "smalti\[text\]"'):
        T5Text(TINY, source=tmp_path).encode(["a red apple"])
    monkeypatch.setitem(sys.modules, "bs4", None)
    with pytest.raises(ImportError, match=r'pip install "smalti\[text\]"'):
        T5Text(TINY, source=folder).encode(["a red apple"])


# ---- end to end ------------------------------------------------------------------------------------------------------


CONFIG = {"classes": 0, "text_features": 8, "text_tokens": LENGTH}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Official weights of a tiny text model."""
    return save_official(tiny_llamagen_generator(**CONFIG), tmp_path / "t2i_tiny.pt")


def load(path: Path, **options: object) -> ImageGenerator:
    """It, with a tiny tokenizer."""
    return smalti.load(path, tokenizer=tiny_llamagen_tokenizer(), **options)  # type: ignore[return-value]


def generate(generator: ImageGenerator, texts: list[str]) -> Tensor:
    """Ids of guided images."""
    ids = generator.generate(text=texts, seed=3, guidance=2.0).tokens.ids
    assert ids is not None
    return ids


def test_text_to_image_from_files(model: Path, folder: Path) -> None:
    """A weight file and a T5 in a folder make images; what is written decides, how it is written does not."""
    config: LlamaGenConfig = tiny_llamagen_generator(**CONFIG).config
    generator = load(model, config=config, text_encoder=folder)
    out = generator.generate(text=["A red APPLE", "the blue dog"], seed=3, guidance=2.0)
    assert out.images.shape == (2, 3, 16, 16) and out.provenance["text"] == ["A red APPLE", "the blue dog"]
    first, same, other = (generate(generator, [t]) for t in ("A red APPLE", "a red apple", "the blue dog"))
    assert torch.equal(out.tokens.ids[:1], first) and torch.equal(first, same)  # type: ignore[index]
    assert not torch.equal(first, other)
    given = load(model, config=config, text_encoder=T5Text(T5(length=LENGTH), source=folder))
    assert torch.equal(generate(given, ["a red apple"]), first)
    with pytest.raises(ValueError, match="classes only: use classes"):
        load(model, config=config).generate(text=["a red apple"])


def test_an_entry_names_its_t5(model: Path, folder: Path, tmp_path: Path) -> None:
    """By data; `text_encoder` says where it is, also for a folder that was saved."""
    config = tiny_llamagen_generator(**CONFIG).config
    before = dict(registry._ENTRIES)
    try:
        entry = Entry(
            name="test/t2i",
            role="generator",
            family="llamagen",
            config=config,
            source=LocalFile(path=model),
            text=TINY,
        )
        register(entry)
        generator: ImageGenerator = load(Path("test/t2i"), text_encoder=folder)
        with pytest.raises(ValueError, match="google/flan-t5-xl"):
            load(Path("test/t2i")).generate(text=["a red apple"])
    finally:
        registry._ENTRIES.clear()
        registry._ENTRIES.update(before)
    ids = generate(generator, ["a red apple"])
    generator.tokenizer.name = "test/tokenizer"
    saved = save_pretrained(generator, tmp_path / "saved", name="test/t2i")
    again: ImageGenerator = load(saved, text_encoder=folder)
    assert isinstance(again.text_encoder, T5Text) and again.text_encoder.settings == TINY
    assert torch.equal(generate(again, ["a red apple"]), ids)


def test_text_encoders_where_there_is_no_text() -> None:
    """A tokenizer and a model of classes refuse one."""
    with pytest.raises(ValueError, match="it reads no text"):
        smalti.load("mini/var", text_encoder="somewhere")


def test_a_model_of_classes_refuses_one(tmp_path: Path) -> None:
    """Before anything is read."""
    tiny = tiny_llamagen_generator()
    path = save_official(tiny, tmp_path / "c2i.pt")
    with pytest.raises(ValueError, match="reads no text features"):
        load(path, config=tiny.config, text_encoder=tmp_path)
