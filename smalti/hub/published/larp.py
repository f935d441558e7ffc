"""LARP (arXiv 2410.21264): the published video tokenizer and its numbers."""

from smalti.hub.registry import Entry, HubFile, Paper, Published
from smalti.images import Resize
from smalti.tokenizers.larp.config import PUBLISHED as TOKENIZERS

_PAPER = Paper(arxiv="2410.21264", title="LARP: Tokenizing Videos with a Learned Autoregressive Generative Prior")
_PROTOCOL = (
    "UCF-101, 16 frames of 128x128, nearest codes, float16 autocast; as the authors' evaluation script records it"
)
_NUMBERS = {"rFVD": 19.53, "PSNR": 28.70, "LPIPS": 0.0755}

ENTRIES = (
    Entry(
        name="larp/l-long",
        role="tokenizer",
        family="larp",
        config=TOKENIZERS["l-long"],
        source=HubFile(repo="hywang66/LARP-L-long-tokenizer", file="model.safetensors"),
        weights_license="not seen: read the model card before use",
        code_license="MIT",
        paper=_PAPER,
        published=tuple(Published(metric=m, value=v, protocol=_PROTOCOL) for m, v in _NUMBERS.items()),
        image_size=TOKENIZERS["l-long"].image_size,
        value_range="[0, 1]",
        resize=Resize(kernel="bilinear"),
        verified=("goldens", "layout"),
        notes=(
            "Clips of 16 frames. The authors' code draws codes at random unless told not to; here they are the "
            "nearest, and drawn only with a given rng. The file also holds the prior of the training, which is not "
            "loaded. In a public issue users report an FVD of about 50 instead of 20."
        ),
    ),
)
