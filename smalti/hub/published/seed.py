"""SEED's image tokenizer (arXiv 2310.01218): the published file, and the layouts that its training code writes."""

from smalti.hub.registry import Entry, HubFile, Paper
from smalti.images import Resize
from smalti.tokenizers.seed.config import PUBLISHED, UNCLIP

_PIXELS = (
    f"Decodes to 768x768 pixels with {UNCLIP}, fetched when first needed (or tokenizer.pipeline = ...). Its authors "
    "prepare images in two ways: their tokenizer resizes bicubic (the default here), their scripts that write id files "
    "bilinear: for those set tokenizer.resize = Resize(kernel='bilinear', crop='none')."
)
_UNPUBLISHED = (
    "Nobody publishes weights of this layout; load your own with smalti.load(path, like=...). A checkpoint of the "
    "authors' trainer holds only what it trained: add the frozen parts of its first stage."
)


def _entry(variant: str, source: HubFile | None, wrapping: str, notes: str) -> Entry:
    config = PUBLISHED[variant]
    return Entry(
        name=f"seed/{variant}",
        role="tokenizer",
        family="seed",
        config=config,
        source=source,
        wrapping=wrapping,
        weights_license="Apache-2.0" if source else "none: no weights are published",
        code_license="Apache-2.0, with parts of LAVIS under BSD-3-Clause",
        paper=Paper(arxiv="2310.01218", title="Making LLaMA SEE and Draw with SEED Tokenizer"),
        image_size=config.image_size,
        value_range="CLIP mean and standard deviation",
        resize=Resize(kernel="bicubic", crop="none"),
        verified=("goldens",) if variant == "tokenizer-2-trained" else ("goldens", "layout"),
        notes=f"{notes} {_PIXELS}".strip(),
    )


ENTRIES = (
    _entry("tokenizer-2", HubFile(repo="AILab-CVC/seed-tokenizer-2", file="seed_quantizer.pt"), "", ""),
    _entry(
        "tokenizer-2-reverse",
        None,
        "model",
        "The embedding is read by a reverse Q-Former of 12 layers (use_qformer_image in the authors' class). "
        + _UNPUBLISHED,
    ),
    _entry(
        "tokenizer-2-trained",
        None,
        "model",
        "The embedding is read by a reverse Q-Former of 4 layers, as the authors' training code builds it. "
        + _UNPUBLISHED,
    ),
)
