"""MingTok and Ming-UniVision (arXiv 2510.06590): the published tokenizers, their numbers, and the generator."""

from smalti.decoding.guidance import Guidance
from smalti.decoding.settings import Settings
from smalti.generators.ming.config import PUBLISHED as GENERATORS
from smalti.hub.registry import Entry, HubFile, Paper, Published
from smalti.text.chat import Chat
from smalti.tokenizers.mingtok.config import PUBLISHED as TOKENIZERS

_PAPER = Paper(
    arxiv="2510.06590",
    title="Ming-UniVision: Joint Image Understanding and Generation with a Unified Continuous Tokenizer",
)
_PROTOCOL = "ImageNet validation set, 50,000 images at 512x512, 256 tokens; reported by the authors"
_NUMBERS = {
    "vision": {"rFID": 0.54, "PSNR": 30.77, "SSIM": 0.62, "LPIPS": 0.14},
    "univision": {"rFID": 0.38, "PSNR": 31.09, "SSIM": 0.64, "LPIPS": 0.12},
}
_WHOLE = HubFile(
    repo="inclusionAI/Ming-UniVision-16B-A3B", file="model.safetensors.index.json", beside=("config.json",)
)
_NOT_SEEN = "not seen: read the model card before use"


def _published(variant: str) -> tuple[Published, ...]:
    return tuple(Published(metric=m, value=v, protocol=_PROTOCOL) for m, v in _NUMBERS[variant].items())


ENTRIES = (
    Entry(
        name="mingtok/vision",
        role="tokenizer",
        family="mingtok",
        config=TOKENIZERS["vision"],
        source=HubFile(repo="inclusionAI/MingTok-Vision", file="model.safetensors"),
        weights_license="Apache-2.0",
        code_license="MIT",
        paper=_PAPER,
        published=_published("vision"),
        image_size=TOKENIZERS["vision"].image_size,
        verified=("goldens", "layout"),
        notes=(
            "Trained at 512 pixels; other multiples of 32 interpolate the encoder's positions. mingtok/univision is "
            "the copy inside the generator, whose semantic decoder was trained on."
        ),
    ),
    Entry(
        name="mingtok/univision",
        role="tokenizer",
        family="mingtok",
        config=TOKENIZERS["vision"],
        source=_WHOLE,
        prefix="vision.",
        weights_license=_NOT_SEEN,
        code_license="MIT",
        paper=_PAPER,
        published=_published("univision"),
        image_size=TOKENIZERS["vision"].image_size,
        verified=("goldens",),
        notes=(
            "The copy of the tokenizer inside Ming-UniVision-16B-A3B, whose semantic decoder was trained on together "
            "with the language model. The files were not seen: that they are safetensors with an index, and that the "
            "sizes are mingtok/vision's, is what the authors' code says."
        ),
    ),
    Entry(
        name="ming/univision-16b-a3b",
        role="generator",
        family="ming",
        config=GENERATORS["univision-16b-a3b"],
        tokenizer="mingtok/univision",
        source=_WHOLE,
        weights_license=_NOT_SEEN,
        code_license="MIT",
        paper=_PAPER,
        settings=Settings(guidance=Guidance(scale=3.0, image_scale=1.1)),
        image_size=TOKENIZERS["vision"].image_size,
        num_classes=0,
        text=Chat(),
        verified=("goldens",),
        notes=(
            "Not tried with the real weights, 17.8 billion: 36 GB with load(..., dtype=torch.bfloat16). Checked are "
            "outputs of tiny models of the authors' classes, and keys and shapes of the visual heads. Sizes that the "
            "config.json beside the weights states replace those given here. Draws images only; the part that writes "
            "text is left out. The authors' code ignores the guidance that is asked for and always uses 3 and 1.1: "
            "quirks='authors' does so, too."
        ),
    ),
)
