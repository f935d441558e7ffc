"""NAR (arXiv 2503.10696): published transformers for images and clips, numbers and sampler settings."""

from typing import Any

from smalti.decoding.guidance import Guidance
from smalti.decoding.settings import Settings
from smalti.generators.nar.config import PUBLISHED
from smalti.hub.registry import Entry, HubFile, Paper, Published
from smalti.images import Resize
from smalti.text.t5 import T5

_PAPER = Paper(arxiv="2503.10696", title="Neighboring Autoregressive Modeling for Efficient Visual Generation")
_IMAGENET = "ImageNet 256x256, 50,000 images, guidance 2, temperature 1, all codes; reported by the authors"
_UCF = "UCF-101, 16 frames of 128x128, guidance 1.25, temperature 1, all codes; reported by the authors"
_GENEVAL = "GenEval, overall; guidance and image size are not given with the number; reported by the authors"

_NUMBERS = {
    "imagenet-256-B": {"FID": 4.65, "IS": 212.3, "precision": 0.83, "recall": 0.47},
    "imagenet-256-M": {"FID": 3.27, "IS": 257.5, "precision": 0.82, "recall": 0.53},
    "imagenet-256-L": {"FID": 3.06, "IS": 263.9, "precision": 0.81, "recall": 0.53},
    "imagenet-256-XL": {"FID": 2.70, "IS": 277.5, "precision": 0.81, "recall": 0.58},
    "imagenet-256-XXL": {"FID": 2.58, "IS": 293.5, "precision": 0.82, "recall": 0.57},
    "t2i-XL-stage1-256": {},
    "t2i-XL-stage2-512": {"GenEval": 0.43},
    "ucf101-L": {"FVD": 96.2},
    "ucf101-LP": {"FVD": 71.1},
}
_LICENSES = {"imagenet-256-B": "Apache-2.0", "imagenet-256-XL": "MIT"}
_NOT_SEEN = "not seen: read the model card before use"
_NAME = (
    "The name of the file was not seen: it is the one that the authors' training script writes. If the repository has "
    "another, fetch it and load its path."
)
_T5 = (
    "Needs google/flan-t5-xl, a download of about 11 GB; load(..., text_encoder=FOLDER) says where it is. The authors' "
    "page links the first stage to LlamaGen's file by mistake."
)
_CLIP = (
    "Clips of 16 frames. Frame prediction is left out: in the authors' code its training ends in an error, and its "
    "sampling sees a single token of the given frames."
)

_UCF101 = """
ApplyEyeMakeup ApplyLipstick Archery BabyCrawling BalanceBeam BandMarching BaseballPitch Basketball BasketballDunk
BenchPress Biking Billiards BlowDryHair BlowingCandles BodyWeightSquats Bowling BoxingPunchingBag BoxingSpeedBag
BreastStroke BrushingTeeth CleanAndJerk CliffDiving CricketBowling CricketShot CuttingInKitchen Diving Drumming
Fencing FieldHockeyPenalty FloorGymnastics FrisbeeCatch FrontCrawl GolfSwing Haircut HammerThrow Hammering
HandstandPushups HandstandWalking HeadMassage HighJump HorseRace HorseRiding HulaHoop IceDancing JavelinThrow
JugglingBalls JumpRope JumpingJack Kayaking Knitting LongJump Lunges MilitaryParade Mixing MoppingFloor Nunchucks
ParallelBars PizzaTossing PlayingCello PlayingDaf PlayingDhol PlayingFlute PlayingGuitar PlayingPiano PlayingSitar
PlayingTabla PlayingViolin PoleVault PommelHorse PullUps Punch PushUps Rafting RockClimbingIndoor RopeClimbing
Rowing SalsaSpin ShavingBeard Shotput SkateBoarding Skiing Skijet SkyDiving SoccerJuggling SoccerPenalty
StillRings SumoWrestling Surfing Swing TableTennisShot TaiChi TennisSwing ThrowDiscus TrampolineJumping Typing
UnevenBars VolleyballSpiking WalkingWithDog WallPushups WritingOnBoard YoYo
"""
UCF101_CLASSES = tuple(_UCF101.split())
"""UCF-101's classes (arXiv 1212.0402) by number: alphabetical order."""


def _entry(variant: str, repo: str, file: str, tokenizer: str, protocol: str, guidance: float, **more: Any) -> Entry:
    config = PUBLISHED[variant]
    numbers = _NUMBERS[variant].items()
    return Entry(
        name=f"nar/{variant}",
        role="generator",
        family="nar",
        config=config,
        tokenizer=tokenizer,
        source=HubFile(repo=repo, file=file),
        weights_license=_LICENSES.get(variant, _NOT_SEEN),
        code_license="MIT",
        paper=_PAPER,
        published=tuple(Published(metric=metric, value=value, protocol=protocol) for metric, value in numbers),
        settings=Settings(guidance=Guidance(scale=guidance)),
        num_classes=config.classes or None,
        verified=("goldens", "layout"),
        **more,
    )


def _image(size: str, owner: str) -> Entry:
    sharded = size == "XXL"  # saved by sharded training: bare, under another name
    return _entry(
        f"imagenet-256-{size}",
        f"{owner}/NAR-imagenet-256-{size}",
        "consolidated.pth" if sharded else "last_version.pt",
        "llamagen/vq-ds16-c2i",
        _IMAGENET,
        2.0,
        wrapping="" if sharded else "model",
        image_size=256,
        resize=Resize(kernel="bicubic"),
        notes="" if size == "B" else _NAME,
    )


def _text(stage: int, pixels: int) -> Entry:
    variant = f"t2i-XL-stage{stage}-{pixels}"
    return _entry(
        variant,
        f"yefly/NAR-XL-t2i-stage{stage}",
        "last_version.pt",
        "llamagen/vq-ds16-t2i",
        _GENEVAL,
        7.5,
        wrapping="model",
        image_size=pixels,
        resize=Resize(kernel="bicubic"),
        text=T5(length=PUBLISHED[variant].text_tokens),
        notes=f"{_T5} {_NAME}",
    )


def _clip(size: str) -> Entry:
    return _entry(
        f"ucf101-{size}",
        f"chenfeng1271/NAR-ucf101-256-{size}",
        "epoch-last.pth",
        "larp/l-long",
        _UCF,
        1.25,
        wrapping="model_sd",
        image_size=128,
        value_range="[0, 1]",
        resize=Resize(kernel="bilinear"),
        class_names=UCF101_CLASSES,
        notes=f"{_CLIP} {_NAME}",
    )


_IMAGES = {"B": "chenfeng1271", "M": "yefly", "L": "chenfeng1271", "XL": "yefly", "XXL": "chenfeng1271"}
"""Size -> who publishes it on the hub."""

ENTRIES = (
    *(_image(size, owner) for size, owner in _IMAGES.items()),
    _text(1, 256),
    _text(2, 512),
    *map(_clip, ("L", "LP")),
)
