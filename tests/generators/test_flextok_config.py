"""Proves that a published FlexAR is what the config.yaml beside its weights says: every option of the public blocks is
built, its official names are known both ways, and cached decoding equals teacher forcing; what is unknown is refused by
name, and nothing in a config is imported.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import save_file
from torch import Tensor

from smalti.decoding.loop import Stage, decode
from smalti.decoding.noise import Noise
from smalti.generators.flextok.config import FlexARConfig, NormConfig
from smalti.generators.flextok.config_reader import read_config, read_file
from smalti.generators.flextok.model import FlexARGenerator
from smalti.generators.flextok.weights import key_map
from smalti.hub import load, model_info
from smalti.hub.assembly import assemble
from smalti.hub.keymap import to_official
from smalti.hub.registry import Entry, LocalFile
from smalti.pipeline import ImageGenerator
from smalti.text.t5 import T5Text
from smalti.tokenizers.base import NoFeedback
from smalti.tokens import Tokens
from tests.generators.flexar_config import LAYERS, attention, authors_config, cross, norm, part
from tests.text.t5_folder import save_tiny_t5
from tests.tiny.flextok import captions, tiny_flextok

RMS = NormConfig(kind="rms", eps=1e-6)
SWIGLU = f"{LAYERS}.ffn.SwiGLUFFN"
ROPE = {"_target_": "l3m.model.preprocessors.pos_embed.rope.RoPE", "context_length": 6, "head_dim": 8}
Case = tuple[dict[str, Any], dict[str, Any], dict[str, tuple[int, ...]]]

CLASSES: dict[str, Case] = {
    "plain": ({}, {"fused_qkv": True, "qk_norm": None, "gated": False}, {
        "attn.qkv.weight": (96, 32), "attn.proj.weight": (32, 32), "norm_1.weight": (32,), "norm_1.bias": (32,),
        "norm_2.weight": (32,), "norm_2.bias": (32,), "mlp.fc1.weight": (128, 32), "mlp.fc2.weight": (32, 128),
    }),
    "biases": ({"trunk": {"use_bias": True, "attn_target": attention(qkv_bias=True)}}, {"bias": True}, {
        "attn.qkv.bias": (96,), "attn.proj.bias": (32,), "mlp.fc1.bias": (128,), "mlp.fc2.bias": (32,),
    }),
    "swiglu, rounded": ({"trunk": {"ffn_target": part(SWIGLU)}}, {"activation": "silu"}, {
        "mlp.fc1.weight": (256, 32), "mlp.fc2.weight": (32, 256), "mlp.fc3.weight": (256, 32),
    }),
    "swiglu, not rounded": ({"trunk": {"ffn_target": part(SWIGLU, multiple_of=1)}}, {"gated": True}, {
        "mlp.fc1.weight": (85, 32), "mlp.fc2.weight": (32, 85), "mlp.fc3.weight": (85, 32),
    }),
    "geglu": ({"trunk": {"ffn_target": part(f"{LAYERS}.ffn.GeGELU", multiple_of=8)}}, {"activation": "gelu"}, {
        "mlp.fc3.weight": (88, 32),
    }),
    "gate of another activation": (
        {"trunk": {"ffn_target": part(f"{LAYERS}.ffn.GatedFFN", multiple_of=8), "act_layer": part("torch.nn.ReLU")}},
        {"activation": "relu"}, {"mlp.fc3.weight": (88, 32)}),
    "hidden width by number": ({"trunk": {"mlp_hidden_dim": 50}}, {"hidden": 50}, {"mlp.fc1.weight": (50, 32)}),
    "hidden width by ratio": ({"trunk": {"mlp_ratio": 2}}, {"hidden": 64}, {"mlp.fc1.weight": (64, 32)}),
    "tanh gelu": ({"trunk": {"act_layer": part("torch.nn.GELU", approximate="tanh")}}, {"activation": "gelu-tanh"}, {}),
    "quick gelu": ({"trunk": {"act_layer": part(f"{LAYERS}.activation.QuickGELU")}}, {"activation": "quick-gelu"}, {}),
    "rms": ({"trunk": {"norm_layer": norm("RMSNorm")}}, {"norm": RMS}, {"norm_1.weight": (32,)}),
    "layer norm, other eps": ({"trunk": {"norm_layer": norm("LayerNormFP32", eps="1e-4")}},
        {"norm": NormConfig(eps=1e-4)}, {}),
    "layer norm, no bias": ({"trunk": {"norm_layer": norm("LPLayerNorm", elementwise_bias=False)}},
        {"norm": NormConfig(eps=1e-5, bias=False)}, {"norm_1.weight": (32,)}),
    "qk rms": ({"trunk": {"attn_target": attention(qk_norm=norm("RMSNorm"))}}, {"qk_norm": RMS}, {
        "attn.q_norm.weight": (8,), "attn.k_norm.weight": (8,)}),
    "qk layer norm": ({"trunk": {"attn_target": attention(qk_norm=norm("LayerNorm"))}},
        {"qk_norm": NormConfig(eps=1e-5)}, {"attn.q_norm.bias": (8,), "attn.k_norm.bias": (8,)}),
    "qk norm over all heads": ({"trunk": {"attn_target": attention("DCLMAttention", qk_norm=norm("RMSNorm"))}},
        {"qk_norm_whole": True}, {"attn.q_norm.weight": (32,), "attn.qkv.weight": (96, 32)}),
    "scale": ({"trunk": {"attn_target": attention(qk_scale=0.5)}}, {"attention_scale": 0.5}, {}),
    "split qkv": ({"trunk": {"attn_target": attention("GenericAttention", qkv_bias=True)}}, {"fused_qkv": False}, {
        "attn.q_proj.weight": (32, 32), "attn.k_proj.bias": (32,), "attn.v_proj.weight": (32, 32)}),
    "shared keys": ({"trunk": {"attn_target": attention("GenericAttention", num_kv_heads=2)}}, {"kv_heads": 2}, {
        "attn.q_proj.weight": (32, 32), "attn.k_proj.weight": (16, 32), "attn.v_proj.weight": (16, 32)}),
    "wide heads": ({"trunk": {"attn_target": attention("HFAttention", head_dim=16)}}, {"head_width": 16}, {
        "attn.q_proj.weight": (64, 32), "attn.proj.weight": (32, 64)}),
    "rotary": ({"trunk": {"attn_target": attention(rope_pos_embed=ROPE)}, "preprocessor": {"pos_embed_type": None}},
        {"rotary": 10000.0, "positions": "none"}, {}),
    "sincos positions": ({"preprocessor": {"pos_embed_type": "sincos1d"}}, {"positions": "sincos"}, {}),
    "no norm behind, head with norm and bias": (
        {"trunk": {"post_trunk_norm": False}, "head": {"use_layernorm": True, "use_bias": True}},
        {"post_norm": False, "head_norm": True, "head_bias": True}, {}),
}  # fmt: skip
TEXTS: dict[str, Case] = {
    "plain": ({}, {"text_features": 12, "classes": 0, "text_activation": "gelu-tanh"}, {
        "self_attn.qkv.weight": (96, 32), "self_attn.proj.weight": (32, 32), "cross_attn.Wq.weight": (32, 32),
        "cross_attn.Wk.weight": (32, 32), "cross_attn.Wv.weight": (32, 32), "cross_attn.proj.weight": (32, 32),
        **{f"norm_{i}.{kind}": (32,) for i in (1, 2, 3) for kind in ("weight", "bias")},
        "mlp.fc1.weight": (128, 32), "mlp.fc2.weight": (32, 128),
    }),
    "qk norms": (
        {"trunk": {"self_attn_target": attention(qk_norm=norm("RMSNorm")),
                   "cross_attn_target": cross(qk_norm=norm("LayerNorm"))}},
        {"qk_norm": RMS, "cross_qk_norm": NormConfig(eps=1e-5)}, {
        "self_attn.q_norm.weight": (8,), "cross_attn.q_norm.weight": (8,), "cross_attn.k_norm.bias": (8,)}),
    "other heads across": ({"trunk": {"cross_attn_target": {**cross(qkv_bias=True), "num_heads": 2}}},
        {"cross_heads": 2}, {"cross_attn.Wq.bias": (32,)}),
    "split qkv": ({"trunk": {"self_attn_target": attention("HFAttention")}}, {"fused_qkv": False}, {
        "self_attn.q_proj.weight": (32, 32)}),
    "text bias, exact gelu": ({"mlp": {"use_bias": True, "act_layer": part("torch.nn.GELU")}},
        {"text_bias": True, "text_activation": "gelu"}, {}),
    # their decoder takes act_layer and does not pass it on
    "activation that is not used": ({"trunk": {"act_layer": part("torch.nn.ReLU")}}, {"activation": "gelu"}, {}),
}  # fmt: skip


def published(config: FlexARConfig, data: dict[str, Any], folder: Path) -> tuple[Entry, dict[str, Tensor]]:
    """A file as the authors would publish it, config beside it, tokenizer and T5 inside; its entry, and its weights."""
    torch.manual_seed(0)
    model = FlexARGenerator(config)
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    official = to_official(model.state_dict(), key_map(config))
    more = {"models.image_tokenizer.flextok_model.encoder.x": torch.zeros(1)}
    more["models.text_encoder.t5_embedder.model.shared.weight"] = torch.zeros(1)
    save_file({k: v.clone() for k, v in official.items()} | more, folder / "model.safetensors")
    (folder / "config.yaml").write_text(yaml.safe_dump(data))
    entry = model_info("flexar/1b-t2i" if config.text_features else "flexar/1b-c2i")
    return replace(entry, source=LocalFile(path=folder / "model.safetensors")), official


@pytest.mark.parametrize("name", [*CLASSES, *(f"text: {name}" for name in TEXTS)])
def test_every_option_is_built_and_decodes_with_a_cache_as_without(name: str, tmp_path: Path) -> None:
    text = name.startswith("text: ")
    changes, fields, keys = TEXTS[name.removeprefix("text: ")] if text else CLASSES[name]
    data = authors_config(text=text, **changes)
    config = read_config(data)
    assert {key: getattr(config, key) for key in fields} == fields
    entry, official = published(config, data, tmp_path)
    block = {k.split("blocks.1.")[1]: tuple(v.shape) for k, v in official.items() if "blocks.1." in k}
    assert block == keys if name.endswith("plain") else {k: block[k] for k in keys} == keys
    model, _ = assemble(entry, tmp_path / "model.safetensors", torch.float32)
    back = to_official(model.state_dict(), key_map(config))
    assert back.keys() == official.keys() and all(torch.equal(back[k], official[k]) for k in back)
    condition = captions([0, 1]) if text else captions([0, 1]).of_classes([0, 4])
    partials = list(decode([Stage(model=model)], condition, feedback=NoFeedback(), noise=Noise.of(0, 2)))
    tokens = Tokens(layout=model.layout, ids=partials[-1].values.clone())
    with torch.no_grad():
        logprobs_BLV = model(tokens, condition).logits_RBnV[0].log_softmax(-1)
    for i, partial in enumerate(partials):
        expected = logprobs_BLV[:, i].gather(1, tokens.ids[:, i : i + 1])  # type: ignore[index]
        assert partial.choice is not None and partial.choice.logprobs is not None
        assert torch.allclose(partial.choice.logprobs, expected, atol=1e-5)


def test_options_change_the_numbers() -> None:
    """An option that was read and not used would pass the test above."""
    seen: dict[str, Tensor] = {}
    ids = torch.arange(6)[None]
    for name, (changes, _, _) in CLASSES.items():
        torch.manual_seed(0)
        model = FlexARGenerator(read_config(authors_config(**changes))).eval()
        generator = torch.Generator().manual_seed(1)
        for _, p in sorted(model.named_parameters()):
            p.data.copy_(torch.randn(p.shape, generator=generator) * 0.3)
        with torch.no_grad():
            seen[name] = model(Tokens(layout=model.layout, ids=ids), captions([0]).of_classes([1])).logits_RBnV
    same = [(a, b) for a in seen for b in seen if a < b and torch.allclose(seen[a], seen[b], atol=1e-6)]
    assert not same


def test_other_names_of_an_attention_are_known(tmp_path: Path) -> None:
    """HFAttention calls its output projection o_proj."""
    data = authors_config(trunk={"attn_target": attention("HFAttention", num_key_value_heads=1)})
    entry, official = published(read_config(data), data, tmp_path)
    renamed = {k.replace(".attn.proj.", ".attn.o_proj."): v.clone() for k, v in official.items()}
    save_file(renamed, tmp_path / "model.safetensors")
    model, _ = assemble(entry, tmp_path / "model.safetensors", torch.float32)
    official_key = "models.ar_image_model.trunk.blocks.0.attn.o_proj.weight"
    assert torch.equal(model.blocks[0].attention.proj.weight, renamed[official_key])


def test_a_grid_is_read_whole() -> None:
    """The variant over 16 x 16 tokens is the same transformer."""
    config = read_config(authors_config(preprocessor={"token_grid_size": [3, 2]}))
    layout = FlexARGenerator(config).layout
    assert (layout.segments[0].shape, layout.prefixes) == ((3, 2), (6,))


def test_without_a_config_the_entry_counts_and_quirks_are_kept(tmp_path: Path) -> None:
    data = authors_config()
    entry, _ = published(read_config(data), data, tmp_path)
    entry = replace(entry, config=replace(entry.config, quirks="authors"))
    model, _ = assemble(entry, tmp_path / "model.safetensors", torch.float32)
    assert model.config == replace(read_config(data), quirks="authors")
    (tmp_path / "config.yaml").unlink()
    assert read_file(tmp_path / "model.safetensors") is None
    with pytest.raises(ValueError, match="do not fit the model"):
        assemble(entry, tmp_path / "model.safetensors", torch.float32)


def test_texts_are_read_as_the_authors_do_whoever_says_the_sizes(tmp_path: Path) -> None:
    """A file loaded by `config=` is of no entry, yet its texts go through T5 as the published models' do."""
    data, path = authors_config(text=True), tmp_path / "model.safetensors"
    config = read_config(data)
    published(config, data, tmp_path)
    t5, tokenizer = save_tiny_t5(tmp_path / "t5", width=config.text_features), tiny_flextok()
    told = load(path, config=config, tokenizer=tokenizer, text_encoder=t5)
    alike = load(path, config=config, like="flexar/1b-t2i", tokenizer=tokenizer, text_encoder=t5)
    assert isinstance(told, ImageGenerator) and isinstance(alike, ImageGenerator)
    assert isinstance(told.text_encoder, T5Text) and isinstance(alike.text_encoder, T5Text)
    assert replace(told.text_encoder.settings, repo="google/flan-t5-xl") == alike.text_encoder.settings
    texts = ["A red APPLE", "a red apple", "a dog on the table"]
    features, mask = told.text_encoder.encode(texts)
    expected, expected_mask = alike.text_encoder.encode(texts)
    assert torch.equal(features, expected) and torch.equal(mask, expected_mask)
    assert mask[:, 0].all() and not torch.equal(features[0], features[1]), "padded behind, not cleaned"
    made = [m.generate(text=texts, seed=1, guidance=2.0).tokens.values for m in (told, alike)]
    assert torch.equal(*made)


BAD = [
    (False, {"trunk": {"_target_": "os.system"}}, "'os.system'"),
    (False, {"trunk": {"attn_target": attention("MoE")}}, "attention.MoE"),
    (False, {"trunk": {"attn_target": attention("FlexAttention")}}, "FlexAttention"),
    (False, {"trunk": {"attn_target": {**attention(), "is_causal": False}}}, "without is_causal"),
    (False, {"trunk": {"attn_target": {**attention(), "dim": 16}}}, "differ in their width: 16, 32"),
    (False, {"trunk": {"attn_target": attention("GenericAttention", attn_drop=0.1)}}, "attn_drop = 0.1"),
    (False, {"trunk": {"attn_target": attention(window=4)}}, "'window'"),
    (False, {"trunk": {"attn_target": {**attention(), "_args_": [3]}}}, "'_args_'"),
    (False, {"trunk": {"block": part("l3m.model.trunks.transformer.BlockWithAdapter")}}, "BlockWithAdapter"),
    (False, {"trunk": {"ffn_target": part(f"{LAYERS}.ffn.MLP", norm_layer=norm("RMSNorm"))}}, "norm_layer ="),
    (False, {"trunk": {"ffn_target": norm("RMSNorm")}}, "stands where only a feed-forward layer"),
    (False, {"trunk": {"norm_layer": part("torch.nn.BatchNorm1d")}}, "BatchNorm1d"),
    (False, {"trunk": {"num_blocks": 2.5}}, "num_blocks must be a positive whole number"),
    (False, {"trunk": {"use_bias": "no"}}, "use_bias must be true or false"),
    (False, {"trunk": {"embed_dim": "${constants.other}"}}, "leads nowhere"),
    (False, {"trunk": {"embed_dim": "${mul:2,16}"}}, "no plain reference"),
    (False, {"head": {"use_batchnorm": True}}, "use_batchnorm = True"),
    (False, {"head": {"out_features": 100}}, "differ in their vocabulary: 120, 100"),
    (False, {"preprocessor": {"pos_embed_type": "alibi"}}, "'alibi'"),
    (True, {"trunk": {"self_attn_target": attention("GenericAttention")}}, "only EfficientAttention or HFAttention"),
    (True, {"trunk": {"self_attn_mask_read_key": None}}, "differ in their text mask"),
    (True, {"trunk": {"cross_attn_target": cross(relative_pos_embed=ROPE)}}, "relative_pos_embed"),
    (True, {"t5": {"hf_hub_path": "t5-small"}}, "'t5-small' is not supported, only google/flan-t5-xl"),
]


@pytest.mark.parametrize(("text", "changes", "words"), BAD, ids=[words for _, _, words in BAD])
def test_what_is_unknown_is_refused_by_name(text: bool, changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(authors_config(text=text, **changes)))
    with pytest.raises(ValueError, match=r"config\.yaml cannot be used") as error:
        read_file(tmp_path / "model.safetensors")
    assert words in str(error.value)


@pytest.mark.parametrize(
    "content",
    [
        "a: [",
        "- 1",
        "model: {}",
        "x" * 200_000,
        "a: !!python/object/apply:os.getcwd []",
        "a: ${b}\nmodel: ${a}\nb: ${a}",
    ],
)
def test_a_damaged_config_names_the_file(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(ValueError, match=r"config\.yaml cannot be used"):
        read_file(tmp_path / "model.safetensors")


def test_texts_and_cross_attention_go_together() -> None:
    data = authors_config(text=True)
    del data["model"]["meta_model"]["models"]["text_encoder"]
    with pytest.raises(ValueError, match="only one of them"):
        read_config(data)
    data = authors_config()
    data["model"]["meta_model"]["models"]["critic"] = {"_target_": "torch.nn.Identity"}
    with pytest.raises(ValueError, match="'critic'"):
        read_config(data)
