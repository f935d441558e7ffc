"""Key map of MaskGIT's VQGAN as converted to PyTorch (fun-research/TiTok: maskgit-vqgan-imagenet-f16-256.bin, bare)."""

from torch import Tensor

from smalti.nn.maskgit import DECODER_KEYS, ENCODER_KEYS
from smalti.tokenizers.maskgit.config import MaskGITTokenizerConfig


def key_map(config: MaskGITTokenizerConfig) -> dict[str, str | None]:
    """Official key -> ours; `{}` stands for a number."""
    layers = {f"encoder.{a}": f"encoder.{b}" for a, b in ENCODER_KEYS.items()}
    layers |= {f"decoder.{a}": f"decoder.{b}" for a, b in DECODER_KEYS.items()}
    return {
        "quantize.embedding.weight": "quantizer.codebook",
        **{f"{a}.{kind}": f"{b}.{kind}" for a, b in layers.items() for kind in ("weight", "bias")},
    }


def constants(config: MaskGITTokenizerConfig) -> dict[str, Tensor]:
    """Official keys that hold no information, to write back: none."""
    return {}
