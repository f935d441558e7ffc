"""MaskGIT's VQGAN (arXiv 2202.04200): the file that TiTok's and RAR's authors publish."""

from smalti.hub.registry import Entry, HubFile, Paper
from smalti.images import Resize
from smalti.tokenizers.maskgit.config import PUBLISHED as TOKENIZERS

ENTRIES = (
    Entry(
        name="maskgit/vqgan-f16-256",
        role="tokenizer",
        family="maskgit",
        config=TOKENIZERS["vqgan-f16-256"],
        source=HubFile(repo="fun-research/TiTok", file="maskgit-vqgan-imagenet-f16-256.bin"),
        weights_license="not stated for the converted file; the original is google-research/maskgit's (Apache-2.0)",
        code_license="Apache-2.0",
        paper=Paper(arxiv="2202.04200", title="MaskGIT: Masked Generative Image Transformer"),
        image_size=256,
        value_range="[0, 1]",
        resize=Resize(kernel="bicubic"),
        verified=("goldens", "layout"),
        notes="RAR's tokenizer; TiTok's first stage learns its codes. Takes any size that is a multiple of 16 pixels.",
    ),
)
