"""What goldens and the contract suite do not show of FlexTok: its config as data, seeds, guidance, what is drawn."""

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from smalti.hub import model_info
from smalti.hub.assembly import as_stated
from smalti.nn.kl_autoencoder import KLAutoencoder, KLAutoencoderConfig
from smalti.nn.quantizers.fsq import FSQ
from smalti.tokenizers.flextok.config import PUBLISHED, FlexTokDecode, StackConfig
from smalti.tokenizers.flextok.config_reader import read_config, read_file
from smalti.tokenizers.flextok.objective import (
    FlexTokObjective,
    FlexTokObjectiveConfig,
    draw_budgets,
    draw_times,
)
from tests.tiny.flextok import tiny_flextok, tiny_small_flextok

CASE = Path(__file__).parents[1] / "goldens" / "flextok" / "tokenizer_a" / "config.json"
KEYS = Path(__file__).parents[1] / "goldens" / "keys"


def authors_config(**vae: object) -> dict:
    """The config of the golden case."""
    config = json.loads(CASE.read_text())["config"]
    config["vae"] |= vae
    return config


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# ---- the authors' config, as data ------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["header", "beside", "beside, in a wrapper"])
def test_the_config_of_a_file_counts(form: str, tmp_path: Path) -> None:
    """Header texts (Python literals) and config.json give the sizes and the scaling factor."""
    config, path = authors_config(scaling_factor=0.4), tmp_path / "model.safetensors"
    header = {key: str(value) for key, value in config.items()} if form == "header" else None
    save_file({"x": torch.zeros(1)}, path, metadata=header)
    if form != "header":
        text = json.dumps({"config": config} if form.endswith("wrapper") else config)
        (tmp_path / "config.json").write_text(text)
    entry = as_stated(model_info("flextok/d12-d12-in1k"), path)
    assert entry.config == read_config(config)
    assert (entry.config.registers, entry.config.encoder.width, entry.config.vae.scaling_factor) == (16, 64, 0.4)
    assert entry.config.image_size == 128, "what the tables of 8 x 8 patches cover"


def test_a_file_that_states_nothing_keeps_the_entry(tmp_path: Path) -> None:
    """And using it says what is missing, instead of guessing the scale of the latents."""
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    assert read_file(tmp_path / "model.safetensors") is None
    model = tiny_flextok(
        vae=KLAutoencoderConfig(latent_channels=4, channels=(8, 16), norm_groups=4, scaling_factor=None)
    )
    with pytest.raises(ValueError, match=r"config\.json beside it"):
        model.encode(torch.rand(1, 3, 16, 16))


@pytest.mark.parametrize(
    ("place", "change", "words"),
    [
        (("encoder", "module_dict", "enc_transformer"), {"_target_": "os.system"}, "'os.system'"),
        (("encoder", "module_dict", "enc_transformer"), {"rope": True}, "'rope'"),
        (("encoder", "module_dict", "enc_to_latents"), {"use_mup_readout": True}, "use_mup_readout = True"),
        (("encoder", "module_dict", "enc_to_latents"), {"norm_layer": None}, "norm_layer = None"),
        (("encoder", "module_dict", "enc_seq_packer"), {"mask_mode": "full"}, "mask is 'full'"),
        (("decoder", "module_dict", "dec_transformer"), {"adaLN_expansion": 1}, "adaLN_expansion is 1"),
        (("regularizer",), {"levels": [8, 1]}, "two levels"),
    ],
)
def test_configs_that_would_change_the_numbers_are_refused(place: tuple, change: dict, words: str) -> None:
    """Nothing named in a config is imported; unknown arguments are errors."""
    config = authors_config()
    node = config
    for key in place:
        node = node[key]
    node |= change
    with pytest.raises(ValueError, match=words):
        FSQ(read_config(config).levels)


@pytest.mark.parametrize("text", ["__import__('os').system('true')", "[" * 9000, "{'_target_': 1"])
def test_headers_with_code_or_damage_are_refused(text: str, tmp_path: Path) -> None:
    """The error names the file."""
    path = tmp_path / "model.safetensors"
    header = {key: str(value) for key, value in authors_config().items()} | {"encoder": text}
    save_file({"x": torch.zeros(1)}, path, metadata=header)
    with pytest.raises(ValueError, match=r"model\.safetensors"):
        read_file(path)


def test_every_switch_of_the_layout_is_read() -> None:
    """Other blocks, positions and time scales than the published ones."""
    config = copy.deepcopy(authors_config())
    modules = config["decoder"]["module_dict"]
    modules["dec_transformer"] |= {"qkv_bias": True, "gated_mlp": False, "qk_norm": False, "head_dim": 32}
    modules["dec_patches_posemb_module"] |= {"posemb_type": "learnable_prod", "posemb_scaling": "interpolate"}
    modules["dec_time_embedder"]["max_timestep"] = 1.0
    read = read_config(config, image_size=64)
    expected = StackConfig(
        width=128, depth=2, head_width=32, gated_mlp=False, normalize_qk=False, qkv_bias=True,
        positions="product", position_side=8, resize_positions=True,
    )  # fmt: skip
    assert read.decoder == expected
    assert (read.time_scale, read.image_size) == (1000.0, 64)
    assert expected.hidden == 512


# ---- encoding and decoding -------------------------------------------------------------------------------------------


def test_a_few_registers_give_the_first_tokens() -> None:
    """No token depends on a later register."""
    model = tiny_flextok()
    latents = torch.randn(2, 4, 8, 8, generator=rng())
    with torch.no_grad():
        assert torch.allclose(model.encoder(latents, 2), model.encoder(latents)[:, :2], atol=1e-5)


def test_encoding_draws_from_the_posterior_only_with_a_generator() -> None:
    """One draw per image, in order."""
    model, images = tiny_flextok(), torch.rand(2, 3, 16, 16, generator=rng())
    posterior = model.vae.posterior(images * 2 - 1)
    noise = rng(3)
    drawn = torch.cat([torch.randn(1, 4, 8, 8, generator=noise) for _ in range(2)])
    latents = model.vae.encode(images * 2 - 1, rng=rng(3))
    assert torch.allclose(latents, model.vae.scale(posterior.sample(drawn)))
    assert torch.equal(model.vae.encode(images * 2 - 1), model.vae.scale(posterior.mean))


def test_start_noise_belongs_to_the_image() -> None:
    """One seed for all or one each; a generator gives successive draws; anything else is refused."""
    model = tiny_flextok()
    tokens = model.encode(torch.rand(3, 3, 16, 16, generator=rng()))
    several = model.decode(tokens, options=FlexTokDecode(steps=2, seed=(5, 0, 5)))
    for i, seed in enumerate((5, 0, 5)):
        alone = model.decode(tokens[i], options=FlexTokDecode(steps=2, seed=seed))
        assert torch.allclose(several[i], alone[0], atol=1e-5)
    assert torch.equal(model.decode(tokens), model.decode(tokens))
    assert not torch.equal(model.decode(tokens), model.decode(tokens, rng=rng(1)))
    assert torch.equal(model.decode(tokens, rng=rng(1)), model.decode(tokens, rng=rng(1)))
    with pytest.raises(ValueError, match="2 seeds for 3 images"):
        model.decode(tokens, options=FlexTokDecode(seed=(1, 2)))
    with pytest.raises(ValueError, match=r"options=FlexTokDecode\(\.\.\.\), got dict"):
        model.decode(tokens, options={"steps": 2})
    with pytest.raises(ValueError, match="3 values for 2 steps"):
        FlexTokDecode(steps=2, guidance_scale=(1.0, 2.0, 3.0))


def test_guidance_runs_null_rows_only_where_it_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scale 1 equals the plain model; a scale per step skips them step by step."""
    model = tiny_flextok()
    tokens = model.encode(torch.rand(2, 3, 16, 16, generator=rng()))
    rows: list[int] = []
    watch = model.decoder.watch

    def spy(x: torch.Tensor, *rest: object) -> tuple[torch.Tensor, torch.Tensor]:
        rows.append(len(x))
        return watch(x, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(model.decoder, "watch", spy)
    with torch.no_grad():
        model.sample_latents(tokens, FlexTokDecode(steps=2, guidance_scale=1.0))
        mixed = FlexTokDecode(steps=3, guidance_scale=(1.0, 2.0, 1.0), adaptive=False)
        skipped = model.sample_latents(tokens, mixed)
        model.sample_latents(tokens, FlexTokDecode(steps=2, guidance_scale=(1.0, 2.0)))
    assert rows == [2, 2, 2, 4, 2, 4, 4]
    nearly = FlexTokDecode(steps=3, guidance_scale=(1.0 + 1e-7, 2.0, 1.0 + 1e-7), adaptive=False)
    with torch.no_grad():
        assert torch.allclose(skipped, model.sample_latents(tokens, nearly), atol=1e-4)


def test_autocast_changes_no_types_at_the_surface() -> None:
    """Ids are int64, images float32; the bias of unequal prefixes survives bfloat16."""
    model, images = tiny_flextok(), torch.rand(2, 3, 16, 16, generator=rng())
    with torch.autocast("cpu", torch.bfloat16):
        tokens = model.encode(images)
        decoded = model.decode(tokens.prefix([1, 5]))
    assert decoded.dtype == torch.float32
    assert torch.isfinite(decoded).all()


# ---- quantizer, autoencoder and objective ----------------------------------------------------------------------------


def test_fsq_counts_every_code_once() -> None:
    """ids -> codes -> ids, extremes of z, and a gradient that passes straight through."""
    fsq = FSQ((8, 5, 2, 3))
    ids = torch.arange(fsq.vocab)
    assert torch.equal(fsq.ids_of(fsq.codes_of(ids)), ids)
    assert fsq.codes_of(ids).unique(dim=0).shape == (240, 4)
    codes, extremes = fsq(torch.tensor([[-99.0] * 4, [99.0] * 4]))[:2]
    assert extremes.tolist() == [0, 239]
    assert codes.tolist() == [[-1, -1, -1, -1], [0.75, 1, 0, 1]]
    z = torch.zeros(1, 4, requires_grad=True)
    fsq(z).codes.sum().backward()
    slope = z.grad
    z.grad = None
    fsq.unrounded(z).sum().backward()
    assert slope is not None and z.grad is not None and torch.equal(slope, z.grad) and (slope > 0).all()


@pytest.mark.parametrize("channels", [4, 8, 16])
def test_the_published_autoencoders_have_our_keys(channels: int) -> None:
    """Without the prefix that a FlexTok file puts in front."""
    listed = json.loads((KEYS / f"flextok_vae_c{channels}.json").read_text())
    with torch.device("meta"):
        ours = KLAutoencoder(KLAutoencoderConfig(latent_channels=channels)).net.state_dict()
    assert {key: list(value.shape) for key, value in ours.items()} == {key: shape for key, (_, shape) in listed.items()}


def test_what_the_objective_draws() -> None:
    """Budgets and times have their distributions."""
    budgets = {
        "uniform": set(range(1, 7)),
        "pow2": {1, 2, 4},
        "uniform_pow2": {1, 2, 4, 6},
    }
    for mode, allowed in budgets.items():
        config = FlexTokObjectiveConfig(budgets=mode)  # type: ignore[arg-type]
        assert set(draw_budgets(config, 6, 400, rng()).tolist()) == allowed
    assert len(set(draw_budgets(FlexTokObjectiveConfig(one_budget=True), 64, 9, rng()).tolist())) == 1
    for times, mean in (("mode", 0.5), ("logit_normal", 0.5), ("stratified_logit_normal", 0.5)):
        t = draw_times(FlexTokObjectiveConfig(times=times), 4000, rng())  # type: ignore[arg-type]
        assert 0 <= t.min() < 0.1 and 0.9 < t.max() <= 1
        assert abs(t.mean() - mean) < 0.02


def test_regression_is_the_error_of_one_step_from_zero() -> None:
    """The loss of a batch that is all regressed is that of decoding with steps = 1 and no noise."""
    model = tiny_small_flextok()
    config = FlexTokObjectiveConfig(regression=1.0, budgets="pow2", one_budget=True, sample_posterior=False)
    images = torch.rand(4, 3, 16, 16, generator=rng())
    losses = FlexTokObjective(model, config).eval()(images, 0, rng(2))
    latents, tokens = model.vae.encode(images * 2 - 1), model.encode(images)
    errors = [(model.sample_latents(tokens.prefix(k)) - latents).square().mean() for k in (1, 2, 4)]
    assert min(abs(losses.total - error) for error in errors) < 1e-4 * losses.total


def test_a_weight_without_its_network_is_refused() -> None:
    """REPA needs a feature network."""
    with pytest.raises(ValueError, match="feature network"):
        FlexTokObjective(tiny_flextok(), FlexTokObjectiveConfig(alignment=1.0))


def test_published_sizes() -> None:
    """Width 64 per block, 64,000 codes."""
    widths = {name: (c.encoder.width, c.decoder.width, c.decoder.hidden) for name, c in PUBLISHED.items()}
    assert widths["d18-d28-dfn"] == (1152, 1792, 4778)
    assert widths["d12-d12-in1k"] == (768, 768, 2048)
