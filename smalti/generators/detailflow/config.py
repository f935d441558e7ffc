"""Sizes of DetailFlow's transformer (arXiv 2505.21473), and its guidance that fades with the detail."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from smalti.decoding.guidance import Guidance
from smalti.nn.gpt import hidden_width


@dataclass(frozen=True, kw_only=True)
class DetailFlowConfig:
    """Next-detail transformer: the first tokens one by one, then whole groups."""

    depth: int = 24
    """Number of blocks."""
    width: int = 1024
    """Channels."""
    heads: int = 16
    """Attention heads."""
    hidden: int = 2816
    """Width inside the feed-forward layers."""
    tokens: int = 128
    """Length of the sequence."""
    group: int = 8
    """Tokens predicted in one step behind the head; 1 = one by one throughout."""
    head: int | None = None
    """Leading tokens that are predicted one by one; None = one group."""
    vocab: int = 8192
    """Codes of the tokenizer."""
    classes: int = 1000
    """Number of classes; one more row stands for "no class"."""
    rotation_base: float = 10000.0
    """Slowest wavelength of the rotary positions, cells over 2 pi."""
    norm_eps: float = 1e-5
    """Epsilon of every RMSNorm."""
    token_dropout: float = 0.1
    """Training: dropout of what the first block is fed."""
    dropout: float = 0.1
    """Training: dropout on the outputs of attention and feed-forward layers."""
    drop_path: float = 0.0
    """Training: chance that the last block's residual branch is dropped, growing linearly from 0 at the first."""

    def __post_init__(self) -> None:
        if self.width % self.heads or self.width // self.heads % 4:
            raise ValueError(
                f"width must divide into heads of a multiple of 4 channels, got {self.width} and {self.heads} heads"
            )
        whole = self.tokens % self.group == self.head_length % self.group == 0
        if not whole or not self.group <= self.head_length < self.tokens:
            raise ValueError(
                f"tokens and head must be whole groups, and the head shorter than the sequence: got {self.tokens} "
                f"tokens, a head of {self.head_length}, groups of {self.group}"
            )

    @property
    def head_length(self) -> int:
        """Number of leading tokens that are predicted one by one."""
        return self.group if self.head is None else self.head


def fading(config: DetailFlowConfig, scale: float) -> Guidance:
    """The authors' gradual guidance: s for the head, then s_i = s (G - i + 1) / (G + 1) for group i of G.

    Groups are counted from 0, those inside the head included.
    """
    groups, first = config.tokens // config.group, config.head_length // config.group
    weights = [(groups - i + 1) / (groups + 1) for i in range(first, groups)]
    return Guidance(scale=scale, base=0.0, curve=(*[1.0] * config.head_length, *weights))


_READ = {
    "n_layer": "depth",
    "n_head": "heads",
    "dim": "width",
    "block_size": "tokens",
    "group_size": "group",
    "causal_num": "head",
    "vocab_size": "vocab",
    "num_classes": "classes",
    "rope_base": "rotation_base",
    "norm_eps": "norm_eps",
    "token_dropout_p": "token_dropout",
    "resid_dropout_p": "dropout",
    "drop_path_rate": "drop_path",
}
"""The authors' constructor argument -> our field."""
_FIXED = {"model_type": "c2i", "cls_token_num": 1, "ffn_dim_multiplier": None, "attn_dropout_p": 0.0}
"""Arguments with the one value that published models have, and that is built here."""
_UNUSED = {
    *("initializer_range", "caption_dim", "class_dropout_prob", "max_batch_size", "max_seq_len"),
    "learnable_tok_embeddings",
}


def from_authors(arguments: Mapping[str, Any]) -> DetailFlowConfig:
    """The config that the authors' `config.json` describes: their constructor's arguments, read as data.

    Errors: ValueError for an argument that is not known, or a value that asks for another model (text conditions).
    """
    checked = {*_READ, *_FIXED, *_UNUSED, "multiple_of", "n_kv_head", "ffn_dropout_p"}
    if unknown := sorted(set(arguments) - checked):
        raise ValueError(f"config.json has arguments that DetailFlow's transformer does not have: {', '.join(unknown)}")
    heads, dropout = arguments.get("n_head"), arguments.get("resid_dropout_p")
    fixed = {**_FIXED, "n_kv_head": heads, "ffn_dropout_p": dropout}
    for name, allowed in fixed.items():
        if arguments.get(name, allowed) not in (allowed, None):
            raise ValueError(f"config.json asks for {name} {arguments[name]!r}; only {allowed!r} is built here")
    fields = {ours: arguments[theirs] for theirs, ours in _READ.items() if theirs in arguments}
    hidden = hidden_width(arguments["dim"], arguments.get("multiple_of", 256))
    return DetailFlowConfig(**fields, hidden=hidden)


PUBLISHED = {
    "16-gpt-l": DetailFlowConfig(),
    "32-gpt-l": DetailFlowConfig(tokens=256),
    "64-gpt-l": DetailFlowConfig(tokens=512),
}
"""By number of groups, as the authors name them."""
