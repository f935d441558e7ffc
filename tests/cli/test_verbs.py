"""Proves that every verb does its job on tiny models, that JSON parses, and that user errors are one clear line."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from smalti.images import read_images
from smalti.tokens import Tokens
from tests.cli.conftest import CLASSES, Tiny


def refused(result, *words: str) -> None:
    """Exit status 2, one line on standard error holding the words, no traceback."""
    assert result.status == 2
    assert len(result.err.strip().splitlines()) == 1, result.err
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.err, result.err


# ---- encode, decode, reconstruct -------------------------------------------------------------------------------------


def test_encode_then_decode(smalti, tiny: Tiny, tmp_path: Path) -> None:
    """A token file holds what the library encodes, and decodes without being told by which tokenizer."""
    import smalti as library

    file = tmp_path / "t.safetensors"
    result = smalti("encode", tiny.image, tiny.image, "--tokenizer", tiny.tokenizer, "--out", file)
    assert result.status == 0, result.err
    tokens = Tokens.load(file)
    tokenizer = library.load(tiny.tokenizer)
    assert torch.equal(tokens.ids, tokenizer.encode(read_images([tiny.image] * 2)).ids)
    result = smalti("decode", file, "--out", tmp_path / "out", "--json")
    paths = json.loads(result.out)["images"]
    assert len(paths) == 2
    expected = tokenizer.decode(tokens)
    assert (read_images(paths) - expected).abs().max() <= 0.5 / 255 + 1e-6


def test_encode_keeps_a_budget_and_reads_folders(smalti, tiny: Tiny, tmp_path: Path) -> None:
    """--budget cuts the sequence; a folder stands for the images in it."""
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(3):
        shutil.copy(tiny.image, folder / f"{i}.png")
    (folder / "notes.txt").write_text("no image")
    file = tmp_path / "t.safetensors"
    result = smalti("encode", folder, "--tokenizer", tiny.tokenizer, "--out", file, "--budget", 5, "--json")
    assert [entry["tokens"] for entry in json.loads(result.out)["images"]] == [5, 5, 5]
    assert Tokens.load(file).lengths.tolist() == [5, 5, 5]


def test_reconstruct_scores_every_budget(smalti, tiny: Tiny, tmp_path: Path) -> None:
    """One PNG and one row a budget, with the bits of the layout."""
    arguments = ("reconstruct", tiny.image, "--tokenizer", tiny.tokenizer, "--budget", "1,14,all", "--out", tmp_path)
    rows = json.loads(smalti(*arguments, "--json").out)["budgets"]
    assert [row["tokens"] for row in rows] == [1, 14, 30]
    assert [row["bits"] for row in rows] == [5, 70, 150]
    assert rows[0]["bpp"] == 5 / 256
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ramp-0001.png", "ramp-0014.png", "ramp-0030.png"]
    assert "PSNR" in smalti(*arguments).out


def test_tokens_of_another_tokenizer_are_refused(smalti, tiny: Tiny, tmp_path: Path) -> None:
    """The message names both tokenizers."""
    file = tmp_path / "t.safetensors"
    smalti("encode", tiny.image, "--tokenizer", tiny.tokenizer, "--out", file)
    result = smalti("decode", file, "--tokenizer", tiny.other_tokenizer, "--out", tmp_path / "out")
    refused(result, tiny.tokenizer, tiny.other_tokenizer)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("encode", "absent.png", "--out", "t.safetensors"), ("absent.png",)),
        (("encode", "IMAGE", "--out", "t.bin"), (".safetensors", "t.bin")),
        (("encode", "--out", "t.safetensors"), ("no images",)),
        (("reconstruct", "IMAGE", "--budget", "15", "--out", "o"), ("14", "30")),
        (("reconstruct", "IMAGE", "--budget", "some", "--out", "o"), ("some", "--budget 1,14,all")),
        (("decode", "IMAGE", "--out", "o"), ("safetensors",)),
        (("decode", "absent.safetensors", "--out", "o"), ("absent.safetensors",)),
    ],
)
def test_wrong_input_is_one_line(
    smalti, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple, words: tuple
) -> None:
    """What is wrong and what is allowed, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    chosen = [tiny.image if a == "IMAGE" else a for a in arguments]
    if arguments[0] != "decode":
        chosen += ["--tokenizer", tiny.tokenizer]
    refused(smalti(*chosen), *words)
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_the_traceback(smalti, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With SMALTI_DEBUG=1 the error is not caught."""
    monkeypatch.setenv("SMALTI_DEBUG", "1")
    with pytest.raises(FileNotFoundError, match="absent"):
        smalti("decode", "absent.safetensors", "--out", tmp_path)


# ---- generate --------------------------------------------------------------------------------------------------------


def test_generate_writes_images_tokens_and_provenance(smalti, tiny: Tiny, tmp_path: Path) -> None:
    """Classes by name and number, several images each; the provenance says how."""
    result = smalti(
        "generate", tiny.generator, "--class", "Dog", "3", "--n", 2, "--seed", 7, "--out", tmp_path, "--json",
        "--guidance", 2, "--temperature", 0.9, "--top-k", 8, "--top-p", 0.9,
    )  # fmt: skip
    assert result.status == 0, result.err
    facts = json.loads(result.out)
    assert facts["classes"] == ["Dog", "3"]
    assert facts["seed"] == 7
    assert facts["guidance"]["scale"] == 2
    assert (facts["sampling"]["temperature"], facts["sampling"]["top_k"], facts["sampling"]["top_p"]) == (0.9, 8, 0.9)
    assert facts["files"] == [f"000{i}.png" for i in range(4)]
    assert Tokens.load(tmp_path / "tokens.safetensors").lengths.tolist() == [30] * 4
    assert json.loads((tmp_path / "generation.json").read_text())["generator"]["name"] == tiny.generator


def test_generate_is_repeatable_and_image_by_image(smalti, tiny: Tiny, tmp_path: Path) -> None:
    """Image i of seed s is image 0 of seed s + i: the same tokens, and pixels up to rounding."""
    text = ("generate", tiny.generator, "--text", "a red apple")
    smalti(*text, "--n", 2, "--seed", 3, "--out", tmp_path / "a")
    smalti(*text, "--seed", 4, "--out", tmp_path / "b")
    first, second = (Tokens.load(tmp_path / name / "tokens.safetensors").ids for name in "ab")
    assert torch.equal(first[1], second[0])
    assert not torch.equal(first[0], second[0])
    pictures = [read_images(tmp_path / name) for name in ("a/0001.png", "b/0000.png")]
    torch.testing.assert_close(*pictures, rtol=0, atol=1.01 / 255)


def test_generate_hands_over_stops_early_and_saves_steps(smalti, tiny: Tiny, tmp_path: Path) -> None:
    """--then/--handover, --budget and --save-steps reach the loop."""
    base = ("generate", tiny.generator, "--class", "cat", "--seed", 1)
    smalti(*base, "--then", tiny.class_generator, "--handover", 2, "--out", tmp_path / "both", "--json")
    both = json.loads((tmp_path / "both" / "generation.json").read_text())
    assert (both["then"]["name"], both["handover"]) == (tiny.class_generator, 2)
    smalti(*base, "--budget", 5, "--save-steps", "--out", tmp_path / "short")
    assert Tokens.load(tmp_path / "short" / "tokens.safetensors").lengths.tolist() == [5]
    names = sorted(p.name for p in (tmp_path / "short").glob("*.png"))
    assert names == ["0000-step01.png", "0000-step02.png", "0000.png"]
    last, result = ((tmp_path / "short" / n).read_bytes() for n in names[1:])
    assert last == result


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("GENERATOR", "--class", "dgo"), ("dgo", "dog")),
        (("GENERATOR", "--class", "5"), ("0..4",)),
        (("GENERATOR", "--text", " "), ("empty",)),
        (("GENERATOR", "--text", "xqzzv"), ("xqzzv",)),
        (("CLASSES", "--text", "a red apple"), ("classes only",)),
        (("GENERATOR", "--class", "cat", "dog", "--text", "a cat"), ("2 classes", "1 texts")),
        (("GENERATOR", "--budget", "6"), ("5", "14")),
        (("GENERATOR", "--handover", "2"), ("then",)),
        (("GENERATOR", "--then", "GENERATOR", "--handover", "9"), ("0..4", "9")),
        (("GENERATOR", "--top-p", "1.5"), ("top_p", "1.5")),
        (("GENERATOR", "--seed", "-1"), ("seed",)),
        (("GENERATOR", "--n", "0"), ("n must be",)),
        (("TOKENIZER",), ("tokenizer",)),
        (("mini/vra-gen",), ("no model 'mini/vra-gen'",)),
    ],
)
def test_what_a_generator_cannot_serve_is_one_line(
    smalti, tiny: Tiny, tmp_path: Path, arguments: tuple, words: tuple
) -> None:
    """Unknown class (with a near match), class out of range, empty or unknown text, illegal numbers."""
    names = {"GENERATOR": tiny.generator, "CLASSES": tiny.class_generator, "TOKENIZER": tiny.tokenizer}
    chosen = [names.get(a, a) for a in arguments]
    refused(smalti("generate", *chosen, "--out", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


# ---- models, info, env, data, train ----------------------------------------------------------------------------------


def test_models_lists_by_pattern_and_role(smalti) -> None:
    """The table and the JSON name the same models."""
    entries = json.loads(smalti("models", "var/*", "--role", "generator", "--json").out)
    assert [e["name"] for e in entries][:2] == ["var/d16", "var/d20"]
    assert {e["role"] for e in entries} == {"generator"}
    table = smalti("models", "var/*").out
    assert all(e["name"] in table for e in entries)
    refused(smalti("models", "nothing*"), "nothing*")


def test_info_of_a_published_model_and_of_a_folder(smalti, tiny: Tiny) -> None:
    """Parameters, license, published numbers with protocol, settings, classes."""
    facts = json.loads(smalti("info", "var/d16", "--json").out)
    assert facts["parameters"] == 310_283_520
    assert facts["weights_license"]
    assert all(number["protocol"] for number in facts["published"])
    assert facts["settings"]["guidance"]["scale"] == 2.5
    shown = smalti("info", tiny.generator).out
    assert all(name in shown for name in CLASSES)
    refused(smalti("info", "var/d61"), "var/d16")


def test_env_names_versions_and_threads(smalti) -> None:
    """What a bug report needs."""
    facts = json.loads(smalti("env", "--json").out)
    assert facts["packages"]["torch"] == torch.__version__.split("+")[0]
    assert facts["threads"] == torch.get_num_threads()
    assert "torch" in smalti("env").out


def test_data_errors_are_one_line(smalti, tmp_path: Path) -> None:
    """A size that is not allowed, nothing to pack, and a folder that was not prepared."""
    (tmp_path / "mine.txt").write_text("mine")
    refused(smalti("data", "prepare", "text", "--size", 4, "--out", tmp_path / "new"), "4", "8 to 1024")
    refused(smalti("data", "pack", "--out", tmp_path / "b.safetensors"), "--emoji")
    refused(smalti("data", "pack", "--emoji", tmp_path, "--out", tmp_path / "b.safetensors"), "metadata.jsonl")
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_train_errors_are_one_line(smalti, tmp_path: Path) -> None:
    """An unknown recipe names the shipped ones; a bank that is not there is named."""
    refused(smalti("train", "nope", "--out", tmp_path), "mini-var-gen")
    refused(smalti("train", "mini-var", "--data", tmp_path / "no.safetensors", "--out", tmp_path), "no.safetensors")
    refused(smalti("train", "mini-var", "--model", "mini-var"), "RECIPE=FOLDER")


# ---- verify, convert -------------------------------------------------------------------------------------------------


def test_verify_prints_a_table_and_sets_the_exit_status(smalti, tiny: Tiny, tmp_path: Path) -> None:
    """0 for a sound packaged model, 1 for random weights, whose gray is not gray."""
    result = smalti("verify", "mini/var")
    assert result.status == 0, result.err
    assert "range probe" in result.out and "failed" not in result.out
    result = smalti("verify", tiny.tokenizer, "--json")
    found = json.loads(result.out)
    assert result.status == (0 if found["ok"] else 1)
    assert {c["name"] for c in found["checks"]} >= {"file", "keys and shapes", "values", "range probe"}
    refused(smalti("verify", "mini/vra"), "did you mean mini/var")


def test_convert_writes_the_other_layout(smalti, tiny: Tiny, tmp_path: Path) -> None:
    """A folder becomes an official file; an existing target is refused."""
    target = tmp_path / "official.safetensors"
    result = smalti("convert", tiny.tokenizer, target)
    assert result.status == 0, result.err
    assert target.is_file()
    refused(smalti("convert", tiny.tokenizer, target), "is there already")
