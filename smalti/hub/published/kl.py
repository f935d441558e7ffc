"""Continuous autoencoders of latent diffusion, as diffusers loads them: published files and numbers."""

from typing import Literal

from smalti.hub.registry import Entry, HubFile, Paper, Published
from smalti.images import Resize
from smalti.tokenizers.kl.config import PUBLISHED

_LDM = Paper(arxiv="2112.10752", title="High-Resolution Image Synthesis with Latent Diffusion Models")
_SDXL = Paper(arxiv="2307.01952", title="SDXL: Improving Latent Diffusion Models for High-Resolution Image Synthesis")
_SD3 = Paper(arxiv="2403.03206", title="Scaling Rectified Flow Transformers for High-Resolution Image Synthesis")
_FLUX = Paper(
    arxiv="2506.15742",
    title="FLUX.1 Kontext: Flow Matching for In-Context Image Generation and Editing in Latent Space",
)
_FLEXTOK = Paper(arxiv="2502.13967", title="FlexTok: Resampling Images into 1D Token Sequences of Flexible Length")
_DC = Paper(arxiv="2410.10733", title="Deep Compression Autoencoder for Efficient High-Resolution Diffusion Models")
_FILE = "diffusion_pytorch_model.safetensors"
_APACHE = "Apache-2.0"
_BUILT = (
    "The file was not seen here: sizes, scale and shift are those of its public config, and the model equals the stock "
    "module of diffusers on random weights."
)
_UNKNOWN = "The factor of its latents is read from the config.json beside the file, which could not be seen here."
_DOCUMENTS = (
    "OmniDoc-TokenBench, 3042 crops of documents at 256x256, FLUX.1-dev's autoencoder; reported by the benchmark"
)


def _entry(
    variant: str,
    repo: str,
    weights_license: str,
    paper: Paper,
    *,
    folder: str = "vae/",
    published: dict[str, float] | None = None,
    verified: tuple[Literal["layout", "listing"], ...] = ("listing",),
    notes: str = _BUILT,
) -> Entry:
    config = PUBLISHED[variant]
    unknown = config.autoencoder.scaling_factor is None
    return Entry(
        name=f"kl/{variant}",
        role="tokenizer",
        family="kl",
        config=config,
        source=HubFile(repo=repo, file=folder + _FILE, beside=("config.json",)),
        weights_license=weights_license,
        code_license=f"{_APACHE} (diffusers)",
        paper=paper,
        published=tuple(
            Published(metric=metric, value=value, protocol=_DOCUMENTS) for metric, value in (published or {}).items()
        ),
        image_size=config.image_size,
        resize=Resize(kernel="bicubic"),
        verified=verified,
        notes=f"{notes} {_UNKNOWN}" if unknown else notes,
    )


def _flextok(variant: str) -> Entry:
    return _entry(
        f"flextok-{variant}",
        f"EPFL-VILAB/flextok_{variant.replace('-', '_')}",
        "Apple ML Research Model license (research only)",
        _FLEXTOK,
        folder="",
        verified=("layout",),
        notes="Trained for FlexTok; its published tokenizers hold the one with 16 channels.",
    )


def _dc(variant: str) -> Entry:
    return _entry(
        f"dc-ae-{variant}", f"mit-han-lab/dc-ae-{variant}-1.0-diffusers", _APACHE, _DC, folder="", notes=_BUILT
    )


_RAIL = "CreativeML Open RAIL-M"
_STABILITY = "Stability AI Community License (free below a yearly revenue of 1 million US dollars; gated)"
ENTRIES = (
    _entry("sd15", "stable-diffusion-v1-5/stable-diffusion-v1-5", _RAIL, _LDM),
    _entry("sd-ft-mse", "stabilityai/sd-vae-ft-mse", "MIT", _LDM, folder=""),
    _entry("sdxl", "stabilityai/stable-diffusion-xl-base-1.0", "CreativeML Open RAIL++-M", _SDXL),
    _entry("sd3", "stabilityai/stable-diffusion-3-medium-diffusers", _STABILITY, _SD3),
    _entry(
        "flux",
        "black-forest-labs/FLUX.1-schnell",
        f"{_APACHE} (the same autoencoder in FLUX.1-dev: non-commercial)",
        _FLUX,
        published={"PSNR": 26.2377, "SSIM": 0.9364, "LPIPS (VGG)": 0.0247, "rFID": 0.5543, "NED": 0.9546},
    ),
    *(_flextok(variant) for variant in ("vae-c4", "vae-c8", "vae-c16")),
    *(
        _dc(variant)
        for variant in (
            "f32c32-in",
            "f64c128-in",
            "f128c512-in",
            "f32c32-mix",
            "f64c128-mix",
            "f128c512-mix",
            "f32c32-sana",
        )
    ),
)
