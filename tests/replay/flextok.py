"""Replays the golden cases of FlexTok's tokenizer through the authors' config, the key map and the public API."""

import torch

from smalti.hub.keymap import to_official, to_ours
from smalti.tokenizers.flextok.config import FlexTokDecode
from smalti.tokenizers.flextok.config_reader import read_config
from smalti.tokenizers.flextok.model import FlexTokTokenizer
from smalti.tokenizers.flextok.weights import key_map
from smalti.tokens import Tokens
from tests.replay.case import Case


def tokenizer_of(case: Case) -> FlexTokTokenizer:
    """Our tokenizer with the case's weights; what we write back are the official keys again."""
    size = case.io["image"].shape[-1]
    config = read_config(case.config["config"], image_size=size, vae=case.config.get("vae_config"))
    model = FlexTokTokenizer(config)
    model.load_state_dict(to_ours(case.weights, key_map(config)))
    assert to_official(model.state_dict(), key_map(config)).keys() == case.weights.keys()
    return model.eval()


def replay_flextok(case: Case) -> None:
    """Autoencoder, tokens, velocities at several lengths, and sampling without guidance, with CFG and with APG."""
    tokenizer = tokenizer_of(case)
    with torch.no_grad():
        _replay_encoding(case, tokenizer)
        _replay_velocities(case, tokenizer)
    _replay_sampling(case, tokenizer)


def _replay_encoding(case: Case, tokenizer: FlexTokTokenizer) -> None:
    image = case.input("image")
    posterior = tokenizer.vae.posterior(image)
    case.close("vae_moments", tokenizer.vae.moments(image))
    latents = tokenizer.vae.scale(posterior.sample(case.input("vae_eps")))
    case.close("vae_latents", latents)
    features = tokenizer.encoder(latents)
    case.close("enc_registers_latent", features)
    codes, ids = tokenizer.quantizer(features)[:2]
    case.close("quant", codes)
    case.equal("token_ids", ids)
    case.close("quant", tokenizer.quantizer.codes_of(ids))
    mode = tokenizer.encoder(tokenizer.vae.encode(image))
    assert torch.equal(tokenizer.encode((image + 1) / 2).ids, tokenizer.quantizer(mode).ids)  # type: ignore[arg-type]


def _replay_velocities(case: Case, tokenizer: FlexTokTokenizer) -> None:
    decoder, count = tokenizer.decoder, tokenizer.config.registers
    x, t, codes = case.input("x_t"), case.input("t"), case.input("quant")
    case.close("time_embedding", decoder.time(t))
    modulation = decoder.modulate(t)
    for match in case.matching(r"velocity_k(all|[\d_]+)"):
        kept = [count] if match[1] == "all" else [int(k) for k in match[1].split("_")]
        kept_B = torch.tensor(kept * (len(x) // len(kept)))
        case.close(match[0], decoder.velocity(x, decoder.condition(codes, kept_B), modulation))
    everyone = torch.ones(len(x), dtype=torch.bool)
    nothing = decoder.condition(codes, torch.full((len(x),), count), everyone)
    case.close("velocity_uncond", decoder.velocity(x, nothing, modulation))


def _replay_sampling(case: Case, tokenizer: FlexTokTokenizer) -> None:
    settings = case.config["guidance"]
    apg = {"momentum": "apg_momentum", "parallel": "apg_eta", "threshold": "apg_norm_threshold"}
    runs = {
        "noguide": FlexTokDecode(steps=settings["steps"], guidance_scale=1.0),
        "cfg": FlexTokDecode(steps=settings["steps"], guidance_scale=settings["cfg_scale"], adaptive=False),
        "apg": FlexTokDecode(
            steps=settings["steps"],
            guidance_scale=settings["apg_scale"],
            **{ours: settings[theirs] for ours, theirs in apg.items()},
        ),
    }
    whole = Tokens(layout=tokenizer.layout(), ids=case.input("token_ids"))
    tokens = whole.prefix(case.input("keep_k"))
    for name, options in runs.items():
        with torch.no_grad():
            latents = tokenizer.sample_latents(tokens, options, noise=case.input("init_noise"))
            case.close(f"latents_{name}", latents)
            case.close(f"image_{name}", tokenizer.decode_latents(latents) * 2 - 1)


REPLAYERS = {"flextok": replay_flextok}
