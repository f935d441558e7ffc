"""Replays the golden cases of SEED's tokenizer: both ways of making the image embedding."""

import torch
from torch import Tensor

from smalti.hub.keymap import to_ours
from smalti.nn.eva import from_clip_range
from smalti.tokenizers.seed.config import SEEDTokenizerConfig
from smalti.tokenizers.seed.model import SEEDTokenizer
from smalti.tokenizers.seed.weights import key_map
from smalti.tokens import Tokens
from tests.replay.case import Case


def tokenizer_of(config: dict, state: dict[str, Tensor]) -> SEEDTokenizer:
    """Our tokenizer with the case's weights; what the config leaves out has the authors' defaults."""
    args, vit, bert = config["args"], config["vit"], config["bert"]
    settings = {
        "image_size": args.get("img_size"),
        "patch": vit["patch_size"],
        "vit_width": vit["embed_dim"],
        "vit_depth": vit["depth"],
        "vit_heads": vit["num_heads"],
        "vit_mlp_ratio": vit["mlp_ratio"],
        "queries": args.get("num_query_token"),
        "causal": args.get("num_query_token", 32) == 32,
        "width": bert["hidden_size"],
        "depth": bert["num_hidden_layers"],
        "heads": bert["num_attention_heads"],
        "mlp_width": bert["intermediate_size"],
        "cross_every": bert.get("cross_attention_freq"),
        "norm_eps": bert.get("layer_norm_eps"),
        "code_channels": args.get("codebook_embed_dim"),
        "vocab": args.get("n_embed"),
        "decoder_depth": args.get("decode_depth"),
        "restores": args.get("recon_s"),
        "head": "qformer" if args.get("use_qformer_image") else "projection",
        "reverse_depth": bert["num_hidden_layers"],
        "embedding_channels": args.get("image_features_dim"),
    }
    ours = SEEDTokenizerConfig(**{k: v for k, v in settings.items() if v is not None})
    model = SEEDTokenizer(ours)
    model.load_state_dict(to_ours(state, key_map(ours)))
    return model.eval()


def replay_seed(case: Case) -> None:
    """Every stage from the image to the tokens, and from tokens to the image embedding."""
    tokenizer = tokenizer_of(case.config, case.weights)
    x = case.input("image")
    images = from_clip_range(x)
    with torch.no_grad():
        case.close("vit_features", tokenizer.vit(x))
        features = tokenizer.features(images)
        case.close("qformer_output", features)
        case.close("codebook_query", tokenizer.to_code(features))
        # what encode calls after its checks, which refuse the stored image: it is noise far outside [0, 1]
        tokens = tokenizer._encode(images, None)
        assert tokens.ids is not None
        case.equal("token_ids", tokens.ids)
        codes = tokenizer.codebook[tokens.ids]
        case.close("quantized", codes)
        case.close("decode_task_output", tokenizer.from_code(codes))
    case.close("image_embeds", tokenizer.embed(tokens))
    random = case.input("random_ids").long()
    case.close("image_embeds_random", tokenizer.embed(Tokens(layout=tokenizer.layout(), ids=random)))


REPLAYERS = {"seed": replay_seed}
