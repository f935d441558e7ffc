"""LlamaGen (arXiv 2406.06525): published files, numbers and sampler settings."""

from typing import Any

from smalti.decoding.guidance import Guidance
from smalti.decoding.sampling import Sampling
from smalti.decoding.settings import Settings
from smalti.generators.llamagen.config import PUBLISHED as GENERATORS
from smalti.hub.registry import Entry, HubFile, Paper, Published
from smalti.images import Resize
from smalti.text.t5 import T5
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


_TOKENIZERS = (
    _tokenizer("vq-ds16-c2i", "FoundationVision/LlamaGen", {256: 2.19, 384: 0.94, 512: 0.70}),
    _tokenizer("vq-ds8-c2i", "FoundationVision/LlamaGen", {256: 0.59}),
    _tokenizer(
        "vq-ds16-t2i",
        "peizesun/llamagen_t2i",
        {},
        "vq-ds16-c2i fine-tuned on 50 million images of LAION-COCO and 10 million internal ones.",
    ),
)

_FID = {
    "c2i-B-256": (5.46, 2.0),
    "c2i-B-384": (6.09, 2.0),
    "c2i-L-256": (3.80, 2.0),
    "c2i-L-384": (3.07, 2.0),
    "c2i-XL-384": (2.62, 1.75),
    "c2i-XXL-384": (2.34, 1.75),
    "c2i-3B-384": (2.18, 1.65),
}
"""FID and the guidance scale it was measured with."""
_FID_PROTOCOL = (
    "ImageNet {size}x{size}, {resized}50,000 images of random classes, guidance {scale:g}, temperature 1, all codes, "
    "OpenAI's ADM evaluator; reported by the authors"
)
_RESIZED = "shrunk to 256x256 bicubically, "
_FSDP = ("c2i-XXL-384", "c2i-3B-384")  # saved by sharded training: bare


def _generator(variant: str, repo: str, tokenizer: str, **more: Any) -> Entry:
    config = GENERATORS[variant]
    return Entry(
        name=f"llamagen/{variant}",
        role="generator",
        family="llamagen",
        config=config,
        tokenizer=tokenizer,
        source=HubFile(repo=repo, file=f"{variant.replace('-', '_')}.pt"),
        wrapping="" if variant in _FSDP else "model",
        weights_license="MIT",
        code_license="MIT",
        paper=_PAPER,
        image_size=config.side * 16,
        resize=Resize(kernel="bicubic"),
        verified=("goldens", "layout"),
        **more,
    )


def _by_class(variant: str) -> Entry:
    (fid, scale), size = _FID[variant], GENERATORS[variant].side * 16
    protocol = _FID_PROTOCOL.format(size=size, resized=_RESIZED if size != 256 else "", scale=scale)
    return _generator(
        variant,
        "FoundationVision/LlamaGen",
        "llamagen/vq-ds16-c2i",
        published=(Published(metric="FID", value=fid, protocol=protocol),),
        settings=Settings(guidance=Guidance(scale=scale)),
        num_classes=GENERATORS[variant].classes,
        notes=_384 if size == 384 else "",
    )


_384 = "Its FID is measured on the images shrunk to 256x256: resize them before comparing with it."
_STAGES = {
    "t2i-XL-stage1-256": "Trained on 50 million images of LAION-COCO. ",
    "t2i-XL-stage2-512": "The 256 pixel model, trained on with 10 million internal images with long captions. ",
}
_T5 = "Needs google/flan-t5-xl, a download of about 11 GB; load(..., text_encoder=FOLDER) says where it is."


def _by_text(variant: str) -> Entry:
    return _generator(
        variant,
        "peizesun/llamagen_t2i",
        "llamagen/vq-ds16-t2i",
        settings=Settings(guidance=Guidance(scale=7.5), sampling=Sampling(top_k=1000)),
        text=T5(length=GENERATORS[variant].text_tokens),
        notes=_STAGES[variant] + _T5,
    )


ENTRIES = (*_TOKENIZERS, *map(_by_class, _FID), *map(_by_text, _STAGES))
