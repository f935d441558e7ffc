"""Hita (arXiv 2507.02358): published tokenizers and generators, numbers and sampler settings."""

from smalti.decoding.guidance import Guidance
from smalti.decoding.settings import Settings
from smalti.generators.hita.config import PUBLISHED as GENERATORS
from smalti.hub.registry import Companion, Entry, HubFile, Paper, Published, WebFile
from smalti.images import Resize
from smalti.tokenizers.hita.config import PUBLISHED as TOKENIZERS
from smalti.tokenizers.hita.weights import FOUNDATION_PREFIX

_DINO = Companion(
    source=WebFile(url="https://dl.fbaipublicfiles.com/dinov2/dinov2_vitl14/dinov2_vitl14_reg4_pretrain.pth"),
    prefix=FOUNDATION_PREFIX,
)
_PAPER = Paper(arxiv="2507.02358", title="Hita: Holistic Tokenizer for Autoregressive Image Generation")
_LICENSE = "not stated where it could be seen: ask the authors"
_REPO = "yexiguafu/hita-gen"
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
        source=HubFile(repo=_REPO, file=f"{variant}/tokenizer/{file}"),
        wrapping="ema",
        companions=(_DINO,),
        weights_license=f"{_LICENSE}; DINOv2 with registers: Apache-2.0",
        code_license="MIT",
        paper=_PAPER,
        published=(
            Published(metric="rFID", value=rfid, protocol=_PROTOCOL),
            Published(metric="rIS", value=inception, protocol=_PROTOCOL),
        ),
        image_size=config.image_size,
        resize=Resize(kernel="bicubic"),
        verified=("goldens", "layout"),
        notes=f"{notes} {_NOTES}",
    )


_SCALE = 1.5
_GENERATION = (
    "ImageNet, 50,000 images generated at 336x336 and scored at 256x256 (bicubic), {guided}, no top-k, no top-p, "
    "OpenAI's ADM evaluator; reported by the authors"
)
_GUIDED = _GENERATION.format(guided="guided by a scale that is not stated")
_UNGUIDED = _GENERATION.format(guided="without guidance")
_SAMPLER_NOTES = (
    f"The guidance scale behind the published numbers is not stated; {_SCALE} is the default of the authors' script. "
    "Their sampler looks the last holistic token up among the vectors of the patches, which training does not: "
    "load(..., quirks='fixed') looks it up as in training."
)

_VANILLA = {
    ("b", 50): (5.85, 212.3),
    ("b", 300): (4.33, 238.9),
    ("l", 50): (3.75, 262.1),
    ("l", 300): (2.86, 267.3),
    ("xl", 50): (2.98, 253.4),
    ("xxl", 50): (2.70, 274.8),
    ("2b", 50): (2.59, 281.9),
}
"""Size and epochs -> FID and IS, guided."""
_ULTRA = {
    ("b", 50): (4.21, 229.0, 8.32, 108.5),
    ("b", 250): (3.49, 237.5, 5.19, 138.9),
    ("l", 50): (2.97, 273.3, 3.96, 151.8),
    ("l", 250): (2.44, 274.6, 2.46, 188.9),
    ("xl", 50): (2.40, 276.3, 2.66, 178.9),
    ("xl", 100): (2.16, 275.3, 2.21, 195.8),
    ("xxl", 50): (2.07, 273.8, 2.21, 196.0),
    ("xxl", 100): (2.01, 276.4, 1.84, 217.2),
    ("2b", 50): (1.93, 286.0, 1.97, 208.6),
    ("2b", 100): (1.82, 282.9, 1.69, 233.0),
}
"""Size and epochs -> FID and IS, guided and unguided."""


def _generator(variant: str, size: str, epochs: int, numbers: tuple[float, ...]) -> Entry:
    config, file = GENERATORS[size], f"GPT-{size.upper()}"
    metrics = zip(("FID", "IS", "FID", "IS"), (_GUIDED, _GUIDED, _UNGUIDED, _UNGUIDED), numbers, strict=False)
    return Entry(
        name=f"hita/{variant}-gpt-{size}-{epochs}e",
        role="generator",
        family="hita",
        config=config,
        tokenizer=f"hita/{variant}",
        source=HubFile(repo=_REPO, file=f"{variant}/{file}/{file}-{epochs}e.pt"),
        wrapping="ema",
        weights_license=_LICENSE,
        code_license="MIT",
        paper=_PAPER,
        published=tuple(Published(metric=m, value=v, protocol=p) for m, p, v in metrics),
        settings=Settings(guidance=Guidance(scale=_SCALE)),
        image_size=TOKENIZERS[variant].image_size,
        resize=Resize(kernel="bicubic"),
        num_classes=config.classes,
        verified=("goldens", "layout"),
        notes=f"Trained for {epochs} epochs. {_SAMPLER_NOTES}",
    )


ENTRIES = (
    _tokenizer("vanilla", "hita-tok.pt", 1.03, 198.5, "Hita-V."),
    _tokenizer("ultra", "hita-ultra.pt", 0.57, 221.8, "Hita-U: also trained to predict DINOv2's features."),
    *(_generator("vanilla", *key, numbers) for key, numbers in _VANILLA.items()),
    *(_generator("ultra", *key, numbers) for key, numbers in _ULTRA.items()),
)
