"""Proves that every published VAR and CoDe file has exactly the keys and shapes our models read and write back, and
that a file of another model is refused with its likely cause.
"""

import json
from pathlib import Path

import pytest
import torch

from smalti.hub import keymap, model_info
from smalti.hub.assembly import convert, official_shapes, our_shapes
from smalti.hub.families import build_empty, family
from smalti.hub.keymap import WeightsError, check_keys, to_official, to_ours
from smalti.hub.matching import best, fitting
from smalti.hub.registry import Folder, HubFile, entries

KEYS = Path(__file__).parents[1] / "goldens" / "keys"
PUBLISHED = [e.name for e in entries() if not isinstance(e.source, Folder) and e.family == "var"]
DTYPES = {"float32": torch.float32, "int64": torch.int64}


def key_list(name: str) -> dict[str, torch.Tensor]:
    """The published keys and shapes of an entry's file, as tensors without data."""
    source = model_info(name).source
    assert isinstance(source, HubFile)
    file = source.file.removesuffix(".pth")
    file = "var_d30" if file.startswith("drafter") else "var_d16" if file.startswith("refiner") else file
    listed = json.loads((KEYS / f"{file}.json").read_text())
    return {k: torch.empty(shape, dtype=DTYPES[dtype], device="meta") for k, (dtype, shape) in listed.items()}


def shapes(state: dict[str, torch.Tensor]) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    return {k: (v.dtype, tuple(v.shape)) for k, v in state.items()}


def test_the_published_models_are_all_there():
    assert len(PUBLISHED) == 2 + 5 + 8 + 4 + 4
    assert {"var/vqvae-256", "var/d16", "var/d36", "code/drafter-6", "code/refiner-9", "code/8"} <= set(PUBLISHED)


@pytest.mark.parametrize("name", PUBLISHED)
def test_key_map_covers_the_published_file_both_ways(name):
    entry, official = model_info(name), key_list(name)
    found = family(entry.role, entry.family)
    ours = convert(entry, official)
    model = build_empty(entry.role, entry.family, entry.config)
    assert {k: tuple(v.shape) for k, v in ours.items()} == our_shapes(entry.role, entry.family, entry.config)
    model.load_state_dict(ours, strict=True, assign=True)
    back = to_official(ours, found.key_map(entry.config), found.constants(entry.config))
    assert shapes(back) == shapes(official)


@pytest.mark.parametrize("name", ["var/vqvae-256", "var/d16", "var/d36"])
def test_key_map_has_no_dead_and_no_double_entry(name):
    entry, official = model_info(name), key_list(name)
    key_map = family(entry.role, entry.family).key_map(entry.config)
    targets = [ours for ours in key_map.values() if ours is not None]
    assert len(targets) == len(set(targets))
    for pattern in key_map:
        if pattern.endswith("nin_shortcut.bias") or pattern.endswith("nin_shortcut.weight"):
            continue  # only where the width changes, which the middle never does
        assert any(k in official for k in official if keymap.dropped([k], {pattern: None})), pattern


def test_numbers_are_filled_in_order_and_constants_come_back():
    key_map = {"a.{}.b.{}.w": "x.{}.y.{}.w", "mask": None, "plain": "other"}
    state = {"a.3.b.10.w": torch.ones(1), "mask": torch.zeros(2), "plain": torch.ones(3)}
    ours = to_ours(state, key_map)
    assert set(ours) == {"x.3.y.10.w", "other"}
    back = to_official(ours, key_map, {"mask": torch.zeros(2)})
    assert set(back) == set(state)
    with pytest.raises(WeightsError, match="stray"):
        to_ours({**state, "stray": torch.ones(1)}, key_map)
    with pytest.raises(WeightsError, match="no official name"):
        to_official({"stray": torch.ones(1)}, key_map)
    with pytest.raises(ValueError, match="different numbers"):
        to_ours(state, {"a.{}": "b"})


def test_missing_unexpected_and_wrong_shapes_are_grouped_with_counts():
    entry, state = model_info("var/d16"), key_list("var/d16")
    for i in range(16):
        del state[f"blocks.{i}.ffn.fc1.weight"]
    state["blocks.0.extra.weight"] = torch.empty(1, device="meta")
    state["head.weight"] = torch.empty(7, 1024, device="meta")
    with pytest.raises(WeightsError) as error:
        convert(entry, state, "my.pth")
    text = str(error.value)
    assert "my.pth do not fit the model" in text
    assert "16 missing:\n  blocks.{}.ffn.fc1: 16 keys, such as blocks.0.ffn.fc1.weight" in text
    assert "1 unexpected:\n  blocks.{}.extra: blocks.0.extra.weight" in text
    assert "1 wrong shape:\n  head: head.weight is [7, 1024], expected [4096, 1024]" in text


def test_long_lists_are_cut_to_ten_groups():
    expected = {f"part{chr(97 + i)}.x.y.weight": (1,) for i in range(25)}
    with pytest.raises(WeightsError) as error:
        check_keys(expected, {})
    assert len(str(error.value).splitlines()) == 2 + 10 + 1
    assert "and 15 more groups" in str(error.value)


def test_likely_causes_are_named():
    with pytest.raises(WeightsError, match=r"looks like var/d20 \(depth 20 instead of 16, width 1280 instead of 1024"):
        convert(model_info("var/d16"), key_list("var/d20"))
    with pytest.raises(WeightsError, match=r"this is a tokenizer file \(var/vqvae-256\), you asked for the generator"):
        convert(model_info("var/d16"), key_list("var/vqvae-256"))


def test_files_without_the_dropped_constants_load():
    state = key_list("var/d16")
    del state["attn_bias_for_masking"]
    assert convert(model_info("var/d16"), state)


@pytest.mark.parametrize("name", ["var/d16", "var/d20", "var/d24", "var/d30", "var/d36"])
def test_a_model_is_recognized_by_its_keys(name):
    found = fitting(key_list(name))
    assert found[0].name == name
    assert {e.config for e in found} == {model_info(name).config}
    assert best(key_list(name), Path("renamed.pth")).name == name


def test_the_file_name_decides_between_equal_layouts():
    assert best(key_list("var/d30"), Path("drafter_8.pth")).name == "code/drafter-8"
    assert best(key_list("var/d16"), Path("refiner_6.pth")).name == "code/refiner-6"
    with pytest.raises(WeightsError, match=r"fits var/vqvae-256 and var/vqvae-512.*like='var/vqvae-256'"):
        best(key_list("var/vqvae-256"), Path("vae_ch160v4096z32.pth"))
    with pytest.raises(WeightsError, match=r"fits no model known here.*config="):
        best({"w": torch.empty(1)}, Path("x.pth"))


def test_what_the_model_needs_is_the_published_list_without_constants():
    entry = model_info("var/d36")
    needed = official_shapes(entry.role, entry.family, entry.config)
    extra = set(key_list("var/d36")) - set(needed)
    assert extra == {"lvl_1L", "attn_bias_for_masking", *(f"blocks.{i}.attn.zero_k_bias" for i in range(36))}


def test_an_official_tensor_may_be_several_of_ours():
    key_map = {"output": ("first", "second"), "plain": "other"}
    state = {"output": torch.arange(6.0).view(6, 1), "plain": torch.ones(1)}
    ours = to_ours(state, key_map)
    assert {k: v.flatten().tolist() for k, v in ours.items()} == {"first": [0, 1, 2], "second": [3, 4, 5], "other": [1]}
    back = to_official(ours, key_map)
    assert back.keys() == state.keys() and all(torch.equal(back[k], state[k]) for k in state)
    with pytest.raises(ValueError, match="cannot be cut"):
        to_ours(state, {"a.{}": ("b", "c")})
