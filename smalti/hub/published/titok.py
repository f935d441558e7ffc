"""TiTok (arXiv 2406.07550) and TA-TiTok (arXiv 2501.07730): published models, numbers and sampler settings."""

from smalti.decoding.settings import Settings
from smalti.generators.titok.config import PUBLISHED as GENERATORS
from smalti.generators.titok.config import authors_guidance, authors_sampling
from smalti.hub.registry import Entry, HubFile, Paper, Published
from smalti.images import Resize
from smalti.tokenizers.titok.config import PUBLISHED as TOKENIZERS

_TITOK = Paper(arxiv="2406.07550", title="An Image is Worth 32 Tokens for Reconstruction and Generation")
_TATITOK = Paper(
    arxiv="2501.07730",
    title="Democratizing Text-to-Image Masked Generative Models with Compact Text-Aware One-Dimensional Tokens",
)
_LICENSE = "research only, as the README says (the authors' hub class declares Apache-2.0)"
_PROTOCOL = "ImageNet validation set, 256x256; reported by the authors"
_CAPTIONED = "ImageNet validation set, 256x256, decoded with the caption 'A photo of a CLASS.'; reported by the authors"
_SAMPLED = "; latents sampled from the posterior"

_RFID = {
    "l32": 2.21,
    "b64": 1.70,
    "s128": 1.71,
    "bl64-vq8k": 2.06,
    "bl128-vq8k": 1.49,
    "sl256-vq8k": 1.03,
    "ll32-vae-c16": 1.61,
    "bl64-vae-c16": 1.25,
    "bl128-vae-c16": 0.84,
}
_RFID_IS = {
    "bl32-vq": (3.95, 219.6),
    "bl64-vq": (2.43, 218.8),
    "bl128-vq": (1.53, 222.8),
    "bl32-vae": (1.53, 222.0),
    "bl64-vae": (1.47, 220.7),
    "sl128-vae": (0.90, 227.7),
}


def _entry(name: str, variant: str, repo: str, paper: Paper, published: tuple[Published, ...], notes: str) -> Entry:
    config = TOKENIZERS[variant]
    return Entry(
        name=name,
        role="tokenizer",
        family="titok",
        config=config,
        source=HubFile(repo=repo, file="model.safetensors"),
        weights_license=_LICENSE,
        code_license="Apache-2.0",
        paper=paper,
        published=published,
        image_size=config.image_size,
        value_range="[0, 1]",
        resize=Resize(kernel="bicubic"),
        verified=("goldens", "layout"),
        notes=notes,
    )


def _titok(variant: str) -> Entry:
    stem = f"tokenizer_titok_{variant.replace('-', '_')}"
    protocol = _PROTOCOL + (_SAMPLED if TOKENIZERS[variant].vocab is None else "")
    published = (Published(metric="rFID", value=_RFID[variant], protocol=protocol),)
    notes = f"Also published as {stem}.bin in fun-research/TiTok."
    if TOKENIZERS[variant].legacy:
        notes = f"Two-stage model; the decoder of MaskGIT's VQGAN is in the file. {notes}"
    return _entry(f"titok/{variant}", variant, f"yucornetto/{stem}_imagenet", _TITOK, published, notes)


def _tatitok(variant: str) -> Entry:
    config = TOKENIZERS[f"ta-{variant}"]
    protocol = _CAPTIONED + (_SAMPLED if config.vocab is None else "")
    numbers = zip(("rFID", "IS"), _RFID_IS[variant], strict=True)
    return _entry(
        f"titok/ta-{variant}",
        f"ta-{variant}",
        f"turkeyju/tokenizer_tatitok_{variant.replace('-', '_')}",
        _TATITOK,
        tuple(Published(metric=metric, value=value, protocol=protocol) for metric, value in numbers),
        f"Decodes with text: pass TextOptions; without, the caption is empty. Captions need {config.text_encoder}.",
    )


_GENERATOR_PROTOCOL = (
    "ImageNet 256x256, 50,000 images (50 per class), {steps} steps, {decay} guidance {scale}, "
    "temperature {temperature} falling linearly, softmax temperature annealing, PNG, OpenAI's ADM evaluator; "
    "reported by the authors"
)
_FID = {"l32": 2.77, "b64": 2.48, "s128": 1.97}
_SAMPLER = {"l32": (4.5, "linear", 9.5), "b64": (3.0, "linear", 11.0), "s128": (6.9, "power-cosine", 2.8)}


def _generator(size: str) -> Entry:
    config, (scale, decay, temperature) = GENERATORS[size], _SAMPLER[size]
    protocol = _GENERATOR_PROTOCOL.format(steps=config.steps, decay=decay, scale=scale, temperature=temperature)
    return Entry(
        name=f"titok/generator-{size}",
        role="generator",
        family="titok",
        config=config,
        tokenizer=f"titok/{size}",
        source=HubFile(repo=f"yucornetto/generator_titok_{size}_imagenet", file="model.safetensors"),
        weights_license=_LICENSE,
        code_license="Apache-2.0",
        paper=_TITOK,
        published=(Published(metric="FID", value=_FID[size], protocol=protocol),),
        settings=Settings(
            guidance=authors_guidance(scale, decay, config.steps),  # type: ignore[arg-type]
            sampling=authors_sampling(temperature, config.steps),
        ),
        image_size=256,
        value_range="[0, 1]",
        resize=Resize(kernel="bicubic"),
        num_classes=config.classes,
        verified=("goldens", "layout"),
        notes=f"Also published as generator_titok_{size}.bin in fun-research/TiTok.",
    )


ENTRIES = (*(_titok(v) for v in _RFID), *(_tatitok(v) for v in _RFID_IS), *map(_generator, GENERATORS))
