"""LaVIT's dynamic visual tokenizer (arXiv 2309.04669): published files. Its authors report no tokenizer numbers."""

from smalti.hub.registry import Companion, Entry, HubFile, Paper
from smalti.images import Resize
from smalti.tokenizers.lavit.config import PUBLISHED

_REPO = "rain1011/LaVIT-7B-v2"
_LICENSE = (
    "LaVIT Community License (custom: not for improving other language models, a license to be asked for above 700 "
    "million users a month, acceptable use policy)"
)
_DECODERS = {
    "lowres": ("tokenizer_decoder.bin", "512x512 pixels by a fine-tuned Stable Diffusion 1.5 (pixel_decoding)"),
    "highres": ("highres_tokenizer_decoder.bin", "1024x1024 pixels by a fine-tuned SDXL (highres_pixel_decoding)"),
}


def _entry(variant: str) -> Entry:
    config = PUBLISHED[variant]
    file, pixels = _DECODERS[variant]
    return Entry(
        name=f"lavit/{variant}",
        role="tokenizer",
        family="lavit",
        config=config,
        source=HubFile(repo=_REPO, file="visual_tokenizer/tokenizer_encoder.bin"),
        companions=(
            Companion(source=HubFile(repo=_REPO, file="visual_tokenizer/eva_vitg_psz14.bin"), prefix="encoder."),
            Companion(source=HubFile(repo=_REPO, file=f"visual_tokenizer/{file}"), prefix="tokenizer_decoder."),
        ),
        weights_license=_LICENSE,
        code_license=_LICENSE,
        paper=Paper(
            arxiv="2309.04669",
            title="Unified Language-Vision Pretraining in LLM with Dynamic Discrete Visual Tokenization",
        ),
        image_size=config.image_size,
        value_range="CLIP mean and standard deviation",
        resize=Resize(kernel="bicubic", crop="none"),
        verified=("goldens", "layout"),
        notes=f"Decodes to {pixels} of the same repository, fetched when first needed. Encoding keeps the patches that "
        "are more probably kept than dropped; with rng= it draws them, as the authors' code does at every call.",
    )


ENTRIES = tuple(_entry(variant) for variant in PUBLISHED)
