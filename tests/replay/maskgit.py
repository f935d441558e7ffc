"""Replays the golden cases of MaskGIT's VQGAN through the public API and the key map."""

import torch

from smalti.hub.keymap import to_ours
from smalti.tokenizers.maskgit.config import MaskGITTokenizerConfig
from smalti.tokenizers.maskgit.model import MaskGITTokenizer
from smalti.tokenizers.maskgit.objective import MaskGITTokenizerObjective, MaskGITTokenizerObjectiveConfig
from smalti.tokenizers.maskgit.weights import key_map
from tests.replay.case import Case


def tokenizer_of(case: Case) -> MaskGITTokenizer:
    """Our tokenizer with the case's weights."""
    args = case.config["args"]
    config = MaskGITTokenizerConfig(
        image_size=args["resolution"],
        vocab=case.config["codes"],
        latent_channels=args["z_channels"],
        channels=args["hidden_channels"],
        multipliers=args["channel_mult"],
        res_blocks=args["num_res_blocks"],
        commitment=case.config["commitment_cost"],
    )
    tokenizer = MaskGITTokenizer(config)
    tokenizer.load_state_dict(to_ours(case.weights, key_map(config)))
    return tokenizer.eval()


@torch.no_grad()
def replay_maskgit(case: Case) -> None:
    """Features, ids, codes, image, and the quantizer's loss."""
    tokenizer, images = tokenizer_of(case), case.input("image")
    case.close("features", tokenizer.features(images).movedim(-1, 1))
    tokens = tokenizer.encode(images)
    assert tokens.ids is not None
    case.equal("ids", tokens.ids)
    codes = tokenizer.quantizer.codes_of(tokens.segment(0))
    case.close("quantised", codes.movedim(-1, 1))
    case.close("recon", tokenizer.decode_latents(codes))
    case.close_clamped("recon", tokenizer.decode(tokens))
    objective = MaskGITTokenizerObjective(tokenizer, MaskGITTokenizerObjectiveConfig(mse=0)).eval()
    case.close("loss_raw", objective(images, 0, torch.Generator()).total)


REPLAYERS = {"maskgit": replay_maskgit}
