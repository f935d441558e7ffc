"""LlamaGen (arXiv 2406.06525): published tokenizers and numbers."""

from smalti.hub.registry import Entry, HubFile, Paper, Published
from smalti.images import Resize
from smalti.tokenizers.llamagen.config import PUBLISHED as TOKENIZERS

_PAPER = Paper(arxiv="2406.06525", title="Autoregressive Model Beats Diffusion: Llama for Scalable Image Generation")
_PROTOCOL = (
    "ImageNet validation set, 50,000 images, encoded at {size}x{size}, scored at 256x256; reported by the authors"
)
_ANY_SIZE = "Takes any size that is a multiple of {stride} pixels; trained at 256 pixels."
_RESIZING = "The authors shrink by halving with a box filter, then bicubically, and crop the center."


def _tokenizer(variant: str, repo: str, rfid: dict[int, float], notes: str = "") -> Entry:
    config = TOKENIZERS[variant.rsplit("-", 1)[0]]
    return Entry(
        name=f"llamagen/{variant}",
        role="tokenizer",
        family="llamagen",
        config=config,
        source=HubFile(repo=repo, file=f"{variant.replace('-', '_')}.pt"),
        wrapping="model",
        weights_license="MIT",
        code_license="MIT",
        paper=_PAPER,
        published=tuple(
            Published(metric="rFID", value=value, protocol=_PROTOCOL.format(size=size)) for size, value in rfid.items()
        ),
        image_size=config.image_size,
        resize=Resize(kernel="bicubic"),
        verified=("goldens", "layout"),
        notes=" ".join(filter(None, [_ANY_SIZE.format(stride=config.stride), _RESIZING, notes])),
    )


ENTRIES = (
    _tokenizer("vq-ds16-c2i", "FoundationVision/LlamaGen", {256: 2.19, 384: 0.94, 512: 0.70}),
    _tokenizer("vq-ds8-c2i", "FoundationVision/LlamaGen", {256: 0.59}),
    _tokenizer(
        "vq-ds16-t2i",
        "peizesun/llamagen_t2i",
        {},
        "vq-ds16-c2i fine-tuned on 50 million images of LAION-COCO and 10 million internal ones.",
    ),
)
