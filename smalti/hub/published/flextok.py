"""FlexTok (arXiv 2502.13967) and FlexAR, the generators over its tokens (arXiv 2604.15453): published models."""

from smalti.decoding.guidance import Guidance
from smalti.decoding.settings import Settings
from smalti.generators.flextok.config import PUBLISHED as GENERATORS
from smalti.hub.registry import Entry, HubFile, Paper
from smalti.images import Resize
from smalti.text.t5 import T5
from smalti.tokenizers.flextok.config import PUBLISHED

_PAPER = Paper(arxiv="2502.13967", title="FlexTok: Resampling Images into 1D Token Sequences of Flexible Length")
_T5 = T5(clean=False, left_padded=False, length=512, dtype="float32")
"""What the authors' class does where a config says nothing: texts as they are, cut where T5's tokenizer cuts."""
_SEARCH = Paper(arxiv="2604.15453", title="(1D) Ordered Tokens Enable Efficient Test-Time Search")
_DATA = {"in1k": "ImageNet-1k", "dfn": "DFN"}


def _entry(variant: str) -> Entry:
    config = PUBLISHED[variant]
    return Entry(
        name=f"flextok/{variant}",
        role="tokenizer",
        family="flextok",
        config=config,
        source=HubFile(repo=f"EPFL-VILAB/flextok_{variant.replace('-', '_')}", file="model.safetensors"),
        weights_license="Apple ML Research Model license (research only)",
        code_license="Apple and EPFL sample code license (non-commercial)",
        paper=_PAPER,
        image_size=config.image_size,
        resize=Resize(kernel="bilinear"),
        verified=("goldens", "layout"),
        notes=(
            f"Trained on {_DATA[variant.rpartition('-')[2]]}. Sizes and the scaling factor of the latents are read "
            "from the file's own header (or the config.json beside it), which could not be seen here: the sizes above "
            "are those that third parties quote. Decodes with 20 steps, guidance 7.5 and adaptive projected guidance, "
            "as the authors' README does; encodes with the mode of the autoencoder's posterior, not with a sample."
        ),
    )


def _generator(variant: str) -> Entry:
    config, text = GENERATORS[variant], variant.endswith("t2i")
    size, task = variant.upper().split("-")
    return Entry(
        name=f"flexar/{variant}",
        role="generator",
        family="flextok",
        config=config,
        tokenizer="flextok/d18-d28-dfn" if text else "flextok/d18-d28-in1k",
        source=HubFile(repo=f"EPFL-VILAB/FlexAR-{size}-{task}", file="model.safetensors", beside=("config.yaml",)),
        weights_license="Apache-2.0",
        code_license="Apache-2.0",
        paper=_SEARCH,
        settings=Settings(guidance=Guidance(scale=3.0 if text else 1.5)),
        image_size=256,
        resize=Resize(kernel="bilinear"),
        num_classes=config.classes or None,
        text=_T5 if text else None,
        verified=("goldens", "listing"),
        notes=(
            "The blocks are checked against outputs of the authors' code; the published file was not seen. What it is "
            "made of (heads, feed-forward layers, norms, biases, positions) stands in the config.yaml beside it, which "
            "is read as data and must be there: the sizes above are those the authors list, the rest is a guess. "
            "It also names the tokenizer (image_tokenizer.model_id); pass tokenizer= if that is not the one given here."
        ),
    )


ENTRIES = (*(_entry(variant) for variant in PUBLISHED), *(_generator(variant) for variant in GENERATORS))
