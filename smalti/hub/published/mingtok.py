"""MingTok (arXiv 2510.06590): the published tokenizer and its numbers."""

from smalti.hub.registry import Entry, HubFile, Paper, Published
from smalti.tokenizers.mingtok.config import PUBLISHED as TOKENIZERS

_PAPER = Paper(
    arxiv="2510.06590",
    title="Ming-UniVision: Joint Image Understanding and Generation with a Unified Continuous Tokenizer",
)
_PROTOCOL = "ImageNet validation set, 50,000 images at 512x512, 256 tokens; reported by the authors"
_NUMBERS = {"rFID": 0.54, "PSNR": 30.77, "SSIM": 0.62, "LPIPS": 0.14}

ENTRIES = (
    Entry(
        name="mingtok/vision",
        role="tokenizer",
        family="mingtok",
        config=TOKENIZERS["vision"],
        source=HubFile(repo="inclusionAI/MingTok-Vision", file="model.safetensors"),
        weights_license="Apache-2.0",
        code_license="MIT",
        paper=_PAPER,
        published=tuple(Published(metric=m, value=v, protocol=_PROTOCOL) for m, v in _NUMBERS.items()),
        image_size=TOKENIZERS["vision"].image_size,
        verified=("goldens", "layout"),
        notes=(
            "Trained at 512 pixels; other multiples of 32 interpolate the encoder's positions. Ming-UniVision-16B-A3B "
            "holds its own copy, whose semantic decoder was trained on together with the language model (the authors "
            "report rFID 0.38 for it)."
        ),
    ),
)
