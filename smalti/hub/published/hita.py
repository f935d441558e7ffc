"""Hita (arXiv 2507.02358): published tokenizers and numbers."""

from smalti.hub.registry import Companion, Entry, HubFile, Paper, Published, WebFile
from smalti.images import Resize
from smalti.tokenizers.hita.config import PUBLISHED as TOKENIZERS
from smalti.tokenizers.hita.weights import FOUNDATION_PREFIX

_DINO = Companion(
    source=WebFile(url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_reg4_pretrain.pth"),
    prefix=FOUNDATION_PREFIX,
)
_PROTOCOL = (
    "ImageNet validation set, 50,000 images, encoded at 336x336, scored at 256x256 (bicubic) against equally resized "
    "originals, OpenAI's ADM evaluator; reported by the authors"
)
_NOTES = (
    "The authors' file lacks the frozen DINOv2 ViT-L/14 with registers, which comes from Meta. "
    "The authors shrink by halving with a box filter, then bicubically, and crop the center."
)


def _tokenizer(variant: str, file: str, rfid: float, inception: float, notes: str) -> Entry:
    config = TOKENIZERS[variant]
    return Entry(
        name=f"hita/{variant}",
        role="tokenizer",
        family="hita",
        config=config,
        source=HubFile(repo="yexiguafu/hita-gen", file=f"{variant}/tokenizer/{file}"),
        wrapping="ema",
        companions=(_DINO,),
        weights_license="not stated where it could be seen: ask the authors; DINOv2 with registers: Apache-2.0",
        code_license="MIT",
        paper=Paper(arxiv="2507.02358", title="Hita: Holistic Tokenizer for Autoregressive Image Generation"),
        published=(
            Published(metric="rFID", value=rfid, protocol=_PROTOCOL),
            Published(metric="rIS", value=inception, protocol=_PROTOCOL),
        ),
        image_size=config.image_size,
        resize=Resize(kernel="bicubic"),
        verified=("goldens", "layout"),
        notes=f"{notes} {_NOTES}",
    )


ENTRIES = (
    _tokenizer("vanilla", "hita-tok.pt", 1.03, 198.5, "Hita-V."),
    _tokenizer("ultra", "hita-ultra.pt", 0.57, 221.8, "Hita-U: also trained to predict DINOv2's features."),
)
