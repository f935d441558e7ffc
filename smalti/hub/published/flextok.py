"""FlexTok (arXiv 2502.13967): published tokenizers."""

from smalti.hub.registry import Entry, HubFile, Paper
from smalti.images import Resize
from smalti.tokenizers.flextok.config import PUBLISHED

_PAPER = Paper(arxiv="2502.13967", title="FlexTok: Resampling Images into 1D Token Sequences of Flexible Length")
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


ENTRIES = tuple(_entry(variant) for variant in PUBLISHED)
