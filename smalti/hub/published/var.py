"""VAR (arXiv 2404.02905) and CoDe (arXiv 2411.17787): published files, numbers and sampler settings."""

from dataclasses import replace

from smalti.decoding.guidance import Guidance
from smalti.decoding.sampling import Sampling
from smalti.decoding.settings import Settings
from smalti.generators.var.config import PUBLISHED as GENERATORS
from smalti.hub.registry import Entry, HubFile, Paper, Published
from smalti.images import Resize
from smalti.tokenizers.var.config import PUBLISHED as TOKENIZERS

_VAR = Paper(
    arxiv="2404.02905", title="Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale Prediction"
)
_CODE = Paper(arxiv="2411.17787", title="Collaborative Decoding Makes Visual Auto-Regressive Modeling Efficient")
_PROTOCOL = (
    "ImageNet {size}x{size}, 50,000 images (50 per class), cfg 1.5, top-k {top_k}, top-p 0.96, PNG, OpenAI's ADM "
    "evaluator; reported by the authors"
)
_RESIZE = Resize(kernel="lanczos")

_GUIDANCE = Guidance(scale=2.5, curve="linear")  # the authors' cfg 1.5 is a ramp from s = 1 to s = 1 + 1.5
VAR_SETTINGS = Settings(guidance=_GUIDANCE, sampling=Sampling(top_k=900, top_p=0.96))
CODE_SETTINGS = Settings(
    guidance=_GUIDANCE,
    sampling=Sampling(top_k=(600,) * 10, top_p=0.96, temperature=(1.1,) * 7 + (1.0,) * 3, temperature_order="last"),
)

_VAR_FID = {"d16": 3.55, "d20": 2.95, "d24": 2.33, "d30": 1.97, "d36": 2.63}
_CODE_FID_IS = {6: (2.27, 297), 7: (2.11, 303), 8: (1.98, 302), 9: (1.94, 296)}
_NOTES = {"d30": "With rejection sampling the authors report FID 1.80 from the same file."}


def _tokenizer(variant: str) -> Entry:
    config = TOKENIZERS[variant]
    return Entry(
        name=f"var/{variant}",
        role="tokenizer",
        family="var",
        config=config,
        source=HubFile(repo="FoundationVision/var", file="vae_ch160v4096z32.pth"),
        weights_license="MIT",
        code_license="MIT",
        paper=_VAR,
        image_size=config.image_size,
        resize=_RESIZE,
        verified=("goldens", "layout"),
        notes="One file serves 256 and 512 pixels; only the sizes of the token maps differ.",
    )


def _generator(name: str, size: str, source: HubFile, paper: Paper, settings: Settings) -> Entry:
    config = GENERATORS[size]
    pixels = config.sides[-1] * 16
    return Entry(
        name=name,
        role="generator",
        family="var",
        config=config,
        tokenizer=f"var/vqvae-{pixels}",
        source=source,
        weights_license="MIT",
        code_license="MIT",
        paper=paper,
        settings=settings,
        image_size=pixels,
        resize=_RESIZE,
        num_classes=config.classes,
        verified=("goldens", "layout"),
    )


def _var(size: str) -> Entry:
    source = HubFile(repo="FoundationVision/var", file=f"var_{size}.pth")
    entry = _generator(f"var/{size}", size, source, _VAR, VAR_SETTINGS)
    protocol = _PROTOCOL.format(size=entry.image_size, top_k=900)
    published = (Published(metric="FID", value=_VAR_FID[size], protocol=protocol),)
    return replace(entry, published=published, notes=_NOTES.get(size, ""))


def _code(kind: str, steps: int) -> Entry:
    size, part = ("d30", f"the first {steps} scales") if kind == "drafter" else ("d16", f"the last {10 - steps} scales")
    source = HubFile(repo="Zigeng/VAR_CoDe", file=f"{kind}_{steps}.pth")
    entry = _generator(f"code/{kind}-{steps}", size, source, _CODE, CODE_SETTINGS)
    return replace(entry, notes=f"Fine-tuned for {part} only; code/{steps} is the pair it belongs to.")


def _pair(name: str, drafter: Entry, refiner: Entry, steps: int, note: str) -> Entry:
    settings = replace(CODE_SETTINGS, then=refiner.name, handover=steps)
    return replace(drafter, name=name, paper=_CODE, settings=settings, published=(), notes=note)


def _published_pair(steps: int, drafter: Entry, refiner: Entry) -> Entry:
    note = f"{drafter.name} makes the first {steps} of 10 scales, {refiner.name} the rest."
    entry = _pair(f"code/{steps}", drafter, refiner, steps, note)
    protocol = _PROTOCOL.format(size=256, top_k=600)
    fid, inception = _CODE_FID_IS[steps]
    numbers = {"FID": fid, "IS": inception}
    return replace(entry, published=tuple(Published(metric=m, value=v, protocol=protocol) for m, v in numbers.items()))


_tokenizers = [_tokenizer(variant) for variant in TOKENIZERS]
_vars = {size: _var(size) for size in GENERATORS}
_drafters = {n: _code("drafter", n) for n in _CODE_FID_IS}
_refiners = {n: _code("refiner", n) for n in _CODE_FID_IS}
_pairs = [_published_pair(n, _drafters[n], _refiners[n]) for n in _CODE_FID_IS]
_training_free = [
    _pair(
        f"code/training-free-{n}",
        _vars["d30"],
        _vars["d16"],
        n,
        f"The published var/d30 makes the first {n} of 10 scales, var/d16 the rest; neither was trained for it.",
    )
    for n in _CODE_FID_IS
]

ENTRIES = (*_tokenizers, *_vars.values(), *_drafters.values(), *_refiners.values(), *_pairs, *_training_free)
