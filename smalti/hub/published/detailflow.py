"""DetailFlow (arXiv 2505.21473): published tokenizers and generators, numbers and sampler settings."""

from smalti.decoding.guidance import Guidance
from smalti.decoding.settings import Settings
from smalti.generators.detailflow.config import PUBLISHED as GENERATORS
from smalti.hub.registry import Entry, HubFile, Paper, Published
from smalti.tokenizers.detailflow.config import PUBLISHED as TOKENIZERS

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
    config = TOKENIZERS[variant]
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


_FID_AND_SCALE = {"16": (2.96, 1.45), "32": (2.75, 1.5), "64": (2.59, 1.32)}
_GENERATION = (
    "ImageNet 256x256, 50,000 images, guidance {scale}, temperature 1, no top-k, no top-p, OpenAI's ADM evaluator; "
    "reported by the authors"
)


def _generator(variant: str) -> Entry:
    config, size = GENERATORS[variant], variant.split("-")[0]
    fid, scale = _FID_AND_SCALE[size]
    return Entry(
        name=f"detailflow/{variant}",
        role="generator",
        family="detailflow",
        config=config,
        tokenizer=f"detailflow/{size}",
        source=HubFile(repo=f"ByteVisionLab/DetailFlow-{size}-GPT-L", file=f"checkpoints/{config.tokens}.pt"),
        wrapping="ema",
        weights_license="Apache-2.0",
        code_license="Apache-2.0",
        paper=_PAPER,
        published=(Published(metric="FID", value=fid, protocol=_GENERATION.format(scale=scale)),),
        settings=Settings(guidance=Guidance(scale=scale)),
        image_size=TOKENIZERS[size].image_size,
        num_classes=config.classes,
        verified=("goldens", "layout"),
        notes=(
            "The three files have the same keys and shapes: the file name, or like=, says which tokenizer they go "
            "with. The authors sampled in bfloat16 and without a cache."
        ),
    )


ENTRIES = (*(_tokenizer(variant) for variant in TOKENIZERS), *(_generator(variant) for variant in GENERATORS))
