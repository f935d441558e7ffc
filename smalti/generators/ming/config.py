"""Sizes of Ming-UniVision (arXiv 2510.06590): the published one and what narrower ones may vary."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

Quirks = Literal["authors", "fixed"]


@dataclass(frozen=True, kw_only=True)
class MingConfig:
    """Language model with experts, flow head, and what ties both to MingTok."""

    vocab: int = 126464
    """Ids of the text tokenizer."""
    width: int = 2048
    """Channels of the language model."""
    depth: int = 28
    """Blocks of the language model."""
    heads: int = 16
    """Attention heads of the queries."""
    kv_heads: int = 4
    """Attention heads of keys and values; every one serves heads / kv_heads query heads (arXiv 2305.13245)."""
    head_width: int = 128
    """Channels of an attention head."""
    rotation_base: float = 600000.0
    """Base of the rotary positions."""
    norm_eps: float = 1e-5
    """Epsilon of every RMSNorm."""
    experts: int = 64
    """Routed feed-forward layers per block."""
    active_experts: int = 6
    """How many of them a token goes through."""
    normalize_experts: bool = True
    """The weights of a token's experts sum to 1."""
    expert_width: int = 1408
    """Hidden width of an expert."""
    shared_experts: int = 2
    """Every token also goes through one feed-forward of this many times the hidden width; 0 = none."""
    image_router: bool = True
    """Images in the prompt have a router of their own in every block; drawn tokens always use the text's."""
    grid: int = 16
    """Tokens of an image along each side."""
    latent_channels: int = 32
    """Width of the tokenizer's latents, which are predicted."""
    semantic_width: int = 1024
    """Width of the tokenizer's semantic features, which are fed."""
    flow_width: int = 3072
    """Channels of the flow head."""
    flow_depth: int = 12
    """Residual blocks of the flow head."""
    flow_ratio: int = 4
    """Width of its feed-forward layers over `flow_width`, before a third of it is taken off for the gate."""
    flow_steps: int = 16
    """Euler steps per token."""
    time_shift: float = 1.0
    """f of the time grid w = u / (u + f - f u), u = i / flow_steps; 1 = even, above 1 = denser near the noise."""
    start_id: int = 126347
    """Last id of every prompt: the one that opens an image."""
    image_id: int = 126346
    """Id that stands for one token of an image inside the prompt."""
    quirks: Quirks = "fixed"
    """"authors": the guidance that is asked for is ignored, and it is always 3 (text) and 1.1 (image)."""

    def __post_init__(self) -> None:
        if self.heads % self.kv_heads:
            raise ValueError(f"heads must be a multiple of kv_heads, got {self.heads} and {self.kv_heads}")
        if self.head_width % 2:
            raise ValueError(f"head_width must be even for rotary positions, got {self.head_width}")
        if not 1 <= self.active_experts <= self.experts:
            raise ValueError(f"active_experts must be 1..{self.experts} (experts), got {self.active_experts}")
        if self.flow_steps < 1 or self.time_shift <= 0:
            raise ValueError(
                f"flow_steps must be at least 1 and time_shift above 0, got {self.flow_steps} and {self.time_shift}"
            )
        if self.quirks not in get_args(Quirks):
            raise ValueError(f"quirks is {self.quirks!r}; allowed: {', '.join(get_args(Quirks))}")
        for name in ("start_id", "image_id"):
            if not 0 <= getattr(self, name) < self.vocab:
                raise ValueError(
                    f"{name} must be an id of the vocabulary, 0..{self.vocab - 1}, got {getattr(self, name)}"
                )

    @property
    def flow_hidden(self) -> int:
        """Hidden width of the flow head's gated feed-forward layers: two thirds, rounded up to a multiple of 8."""
        return (self.flow_width * self.flow_ratio * 2 // 3 + 7) // 8 * 8


_LANGUAGE = {
    "vocab_size": "vocab",
    "hidden_size": "width",
    "num_hidden_layers": "depth",
    "num_attention_heads": "heads",
    "num_key_value_heads": "kv_heads",
    "head_dim": "head_width",
    "rope_theta": "rotation_base",
    "rms_norm_eps": "norm_eps",
    "num_experts": "experts",
    "num_experts_per_tok": "active_experts",
    "norm_topk_prob": "normalize_experts",
    "moe_intermediate_size": "expert_width",
    "num_shared_experts": "shared_experts",
    "multi_gate": "image_router",
    "image_start_token": "start_id",
    "image_patch_token": "image_id",
}
_FIXED: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("silu",),
    "use_bias": (False,),
    "use_qkv_bias": (False,),
    "first_k_dense_replace": (0,),
    "tie_word_embeddings": (False,),
}
_FLOW = {"diffloss_w": "flow_width", "diffloss_d": "flow_depth", "num_sampling_steps": "flow_steps"}
_METHOD = "flow_matching_swiglu-"


def from_authors(language: Mapping[str, Any], flow: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of our config from the authors' `llm_config` and `vishead_diffloss_config`; what they leave out is absent.

    Errors: ValueError for an architecture that is not supported.
    """
    for name, allowed in _FIXED.items():
        if language.get(name, allowed[0]) not in allowed:
            raise ValueError(f"llm_config.{name} is {language[name]!r}; supported: {allowed[0]!r}")
    scaling = language.get("rope_scaling") or {}
    if (
        scaling and scaling.get("type") != "3D"
    ):  # with one position per token, three equal coordinates, it is the plain one
        raise ValueError(f"llm_config.rope_scaling is {scaling!r}; supported: none")
    method = flow.get("gen_method", f"{_METHOD}4")
    if not method.startswith(_METHOD) or flow.get("vis_head_arch", "linear2-norm") != "linear2-norm":
        raise ValueError(f"vishead_diffloss_config describes another head than the published one: {dict(flow)!r}")
    fields = {ours: language[name] for name, ours in _LANGUAGE.items() if language.get(name) is not None}
    if count := language.get("num_image_tokens_for_gen"):
        fields["grid"] = round(count**0.5)
    fields |= {ours: int(flow[name]) for name, ours in _FLOW.items() if name in flow}
    return fields | {"flow_ratio": int(method.removeprefix(_METHOD))}


PUBLISHED = {"univision-16b-a3b": MingConfig()}
