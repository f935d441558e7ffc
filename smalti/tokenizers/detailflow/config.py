"""Sizes of DetailFlow's tokenizer (arXiv 2505.21473): the published ones, and what others may vary."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True, kw_only=True)
class TowerConfig:
    """A SigLIP2 vision transformer (arXiv 2502.14786) over patches and tokens."""

    depth: int = 12
    """Number of blocks."""
    width: int = 768
    """Features per patch or token."""
    heads: int = 12
    """Attention heads."""
    mlp: int = 3072
    """Width inside the MLP."""
    patch: int = 16
    """Side of a patch, pixels."""
    grid: int = 16
    """Side of the learned table of patch positions; other grids are resampled from it."""
    causal: bool = False
    """True: tokens see only tokens of their own and of earlier groups."""

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ValueError(f"width must divide into heads, got {self.width} and {self.heads}")


SO400M = TowerConfig(depth=27, width=1152, heads=16, mlp=4304)
"""SigLIP2 so400m-patch16-naflex, from whose first blocks the published encoders start."""
_ENCODER = replace(SO400M, depth=12, causal=True)


@dataclass(frozen=True, kw_only=True)
class DetailFlowTokenizerConfig:
    """Coarse-to-fine sequence of tokens, each prefix of which stands for the image at its own resolution."""

    image_size: int = 256
    """Side of the image that all tokens stand for, pixels."""
    min_image_size: int = 256
    """Side of the smallest image it was trained to encode, pixels; smaller images get fewer tokens."""
    tokens: int = 128
    """Length of the sequence."""
    group: int = 8
    """Tokens that a generator makes in parallel; behind the head the sequence may be cut after whole groups."""
    head: int | None = None
    """Leading tokens that come one by one, and after each of which the sequence may be cut; None = one group."""
    vocab: int = 8192
    """Codes in the codebook."""
    code_dim: int = 8
    """Width of a code."""
    normalize: bool = True
    """Match features and codes by cosine similarity instead of distance."""
    degradation_power: float = 1.5
    """Exponent p of the curve from number of tokens to resolution."""
    self_correction: bool = True
    """Has the layer that feeds noisy codes back to the encoder."""
    alignment: tuple[int, int] | None = None
    """Training only: inner and output width of the network that predicts another model's features from the first
    token; None = no such network (that of a published file is then dropped on loading)."""
    usage_window: int = 65536
    """Training only: how many of the latest ids are kept to tell how much of the codebook is used; 0 = none."""
    encoder: TowerConfig = _ENCODER
    """Looks at the image."""
    decoder: TowerConfig = TowerConfig()
    """Draws it."""

    def __post_init__(self) -> None:
        head = self.group if self.head is None else self.head
        if self.tokens % self.group or head % self.group or not self.group <= head <= self.tokens or self.tokens < 2:
            raise ValueError(
                f"tokens and head must be whole groups, head at most tokens: got {self.tokens} tokens, a head of "
                f"{head}, groups of {self.group}"
            )
        coarse, fine = self.decoder.patch, self.encoder.patch
        if self.image_size % coarse or coarse % fine:
            raise ValueError(
                f"the image must divide into the decoder's patches and those into the encoder's, got {self.image_size} "
                f"pixels and patches of {coarse} and {fine}"
            )

    @property
    def head_length(self) -> int:
        """Number of leading tokens that come one by one."""
        return self.group if self.head is None else self.head


PUBLISHED = {
    "16": DetailFlowTokenizerConfig(),
    "32": DetailFlowTokenizerConfig(tokens=256),
    "64": DetailFlowTokenizerConfig(tokens=512),
}
"""By number of groups, as the authors name them."""

_BLOCKS = {"siglip2_base": 12, "siglip2_large": 16, "siglip2": SO400M.depth}
"""The authors' name of a tower -> how many of SigLIP2 so400m's first blocks it starts from."""
_READ = {
    "max_image_size": "image_size",
    "num_latent_tokens": "tokens",
    "group_size": "group",
    "causal_num": "head",
    "codebook_size": "vocab",
    "codebook_embed_dim": "code_dim",
    "codebook_l2_norm": "normalize",
    "correction_training": "self_correction",
}
"""The authors' constructor argument -> our field."""
_TOWERS = {
    *("enc_type", "encoder_model", "enc_pretrained", "enc_patch_size", "causal_encoder"),
    *("dec_type", "decoder_model", "dec_pretrained", "dec_patch_size", "causal_decoder"),
}
_UNUSED = {  # about training, or about parts that no published model has
    *("image_size", "codebook_show_usage", "num_codebooks", "z_channels", "encoder_ch_mult", "decoder_ch_mult", "tau"),
    *("commit_loss_beta", "entropy_loss_ratio", "vq_loss_ratio", "kl_loss_weight", "dropout_p", "vq_mean", "vq_std"),
    *("enc_tuning_method", "dec_tuning_method", "enc_drop_path_rate", "dec_drop_path_rate", "global_token_loss_weight"),
    *("gradient_checkpointing_encoder", "gradient_checkpointing_decoder", "repa", "repa_patch_size", "repa_model"),
    *("repa_proj_dim", "repa_layer_indices", "repa_loss_weight", "repa_align"),
}


def from_authors(arguments: Mapping[str, Any], training: Mapping[str, Any] | None = None) -> DetailFlowTokenizerConfig:
    """The config that the authors' files describe: `config.json`, and `config.yaml` beside it, both read as data.

    Errors: ValueError for an argument that is not known, or a tower that the authors' code cannot build either.
    """
    if unknown := sorted(set(arguments) - _READ.keys() - _TOWERS - _UNUSED):
        raise ValueError(f"config.json has arguments that DetailFlow's tokenizer does not have: {', '.join(unknown)}")
    training = training or {}
    fields = {ours: arguments[theirs] for theirs, ours in _READ.items() if theirs in arguments}
    return DetailFlowTokenizerConfig(
        **fields,
        min_image_size=training.get("min_image_size", fields.get("image_size", 256)),
        degradation_power=training.get("degradation_power", 1.5),
        usage_window=65536 if arguments.get("codebook_show_usage", True) else 0,
        encoder=_tower(arguments, "enc", "encoder"),
        decoder=_tower(arguments, "dec", "decoder"),
    )


def _tower(arguments: Mapping[str, Any], short: str, name: str) -> TowerConfig:
    kind, size = arguments.get(f"{short}_type"), arguments.get(f"{name}_model")
    pretrained = arguments.get(f"{short}_pretrained", short == "enc")
    if kind != "siglip2" or size not in _BLOCKS or (size != "siglip2_base" and not pretrained):
        raise ValueError(
            f"config.json asks for {name}_model {size!r} ({short}_type {kind!r}, {short}_pretrained {pretrained}); "
            f"known are siglip2 towers: siglip2_base, or with {short}_pretrained one of {', '.join(_BLOCKS)}"
        )
    tower = replace(SO400M, depth=_BLOCKS[size]) if pretrained else TowerConfig()
    causal = arguments.get(f"causal_{name}", short == "dec")
    return replace(tower, patch=arguments.get(f"{short}_patch_size", 16), causal=causal)
