"""RAR (arXiv 2411.00776): published models, numbers and sampler settings."""

from smalti.decoding.sampling import Sampling
from smalti.decoding.settings import Settings
from smalti.generators.rar.config import PUBLISHED as GENERATORS
from smalti.generators.rar.config import authors_guidance
from smalti.hub.registry import Entry, HubFile, Paper, Published
from smalti.images import Resize

_PAPER = Paper(arxiv="2411.00776", title="Randomized Autoregressive Visual Generation")
_PROTOCOL = (
    "ImageNet 256x256, 50,000 images (50 per class), guidance {scale} along a power-cosine of power {power}, "
    "temperature {temperature}, PNG, OpenAI's ADM evaluator; reported by the authors"
)
_FID = {"b": 1.95, "l": 1.70, "xl": 1.50, "xxl": 1.48}
_SAMPLER = {"b": (16.0, 2.75, 1.0), "l": (15.5, 2.5, 1.02), "xl": (6.9, 1.5, 1.02), "xxl": (8.0, 1.2, 1.02)}


def _generator(size: str) -> Entry:
    config, (scale, power, temperature) = GENERATORS[size], _SAMPLER[size]
    protocol = _PROTOCOL.format(scale=scale, power=power, temperature=temperature)
    return Entry(
        name=f"rar/{size}",
        role="generator",
        family="rar",
        config=config,
        tokenizer="maskgit/vqgan-f16-256",
        source=HubFile(repo="yucornetto/RAR", file=f"rar_{size}.bin"),
        weights_license="research only, as the README says",
        code_license="Apache-2.0",
        paper=_PAPER,
        published=(Published(metric="FID", value=_FID[size], protocol=protocol),),
        settings=Settings(
            guidance=authors_guidance(scale, power, config.tokens), sampling=Sampling(temperature=temperature)
        ),
        image_size=256,
        value_range="[0, 1]",
        resize=Resize(kernel="bicubic"),
        num_classes=config.classes,
        verified=("goldens", "layout"),
    )


ENTRIES = tuple(map(_generator, GENERATORS))
