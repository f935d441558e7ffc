"""DetailFlow (arXiv 2505.21473): published tokenizers and numbers."""

from smalti.hub.registry import Entry, HubFile, Paper, Published
from smalti.tokenizers.detailflow.config import PUBLISHED

_PAPER = Paper(
    arxiv="2505.21473", title="DetailFlow: 1D Coarse-to-Fine Autoregressive Image Generation via Next-Detail Prediction"
)
_RFID = {"16": 1.13, "32": 0.80, "64": 0.52}
_PROTOCOL = "ImageNet 256x256, 50,000 validation images, all tokens, torchmetrics FID; reported by the authors"
_NOTES = (
    "The authors crop as ADM does (halving with a box filter, then bicubic); here the crop is resampled in one step. "
    "The published file also holds the frozen SigLIP2 it was trained against, which is not loaded."
)


def _tokenizer(variant: str) -> Entry:
    config = PUBLISHED[variant]
    return Entry(
        name=f"detailflow/{variant}",
        role="tokenizer",
        family="detailflow",
        config=config,
        source=HubFile(repo=f"ByteVisionLab/DetailFlow-{variant}", file=f"checkpoints/{config.tokens}.pt"),
        wrapping="model",
        weights_license="Apache-2.0",
        code_license="Apache-2.0",
        paper=_PAPER,
        published=(Published(metric="rFID", value=_RFID[variant], protocol=_PROTOCOL),),
        image_size=config.image_size,
        verified=("goldens", "layout"),
        notes=_NOTES,
    )


ENTRIES = tuple(_tokenizer(variant) for variant in PUBLISHED)
