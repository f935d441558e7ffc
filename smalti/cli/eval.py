"""`smalti eval`: what a tokenizer keeps, or how good generated images are, with intervals and provenance."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from smalti.cli import call
from smalti.cli.console import load_tokenizer, print_json, print_table

if TYPE_CHECKING:
    from smalti.eval.run.evaluate import Settings
    from smalti.eval.run.result import EvalResult
    from smalti.eval.run.sources import Source
    from smalti.tokenizers.base import Tokenizer

SuiteName = Literal["quick", "standard", "tokens", "imagenet", "vtbench", "gen"]


def evaluate(
    *,
    out: Path,
    tokenizer: Annotated[tuple[str, ...], arg(metavar="NAME [NAME ...]")] = (),
    suite: SuiteName = "quick",
    data: Path | None = None,
    pairs: Annotated[tuple[Path, ...], arg(metavar="ORIGINALS RECONSTRUCTIONS")] = (),
    generator: str | None = None,
    samples: Path | None = None,
    reference: Path | None = None,
    n: int | None = None,
    budget: str | None = None,
    protocol: str | None = None,
    no_baselines: bool = False,
    latent_bits: str | None = None,
    weights: Annotated[tuple[str, ...], arg(metavar="NETWORK=FILE [...]")] = (),
    allow_unknown_weights: bool = False,
    force_fid: bool = False,
    engine: str = "rapidocr",
    fonts: Annotated[tuple[str, ...], arg(metavar="SCRIPT=FILE [...]")] = (),
    conditions: Annotated[tuple[str, ...], arg(name="assert", metavar='"psnr>=20" [...]')] = (),
    max_skipped: int = 0,
    seed: int = 0,
    device: str = "cpu",
    json: bool = False,
) -> int:
    """What a tokenizer keeps of images, detail and text; or how good generated images are.

    `smalti eval doctor` says which metrics can run here and what is missing. Exit status: 0; 1 if a condition of
    --assert does not hold or more images than --max-skipped were left out; 2 for wrong input. A killed run goes on
    where it was when it is started again with the same words.

    Args:
        out: Folder for metrics.json, per_image.csv and report.html.
        tokenizer: Tokenizers: model names, files or folders.
        suite: quick: generated charts, texts and packaged images, no data needed; standard: the same in full over
            --data; tokens: token statistics; imagenet: by the protocol named; vtbench: VTBench's splits; gen: samples
            against a reference.
        data: Folder of images (vtbench: of its splits; default there: the hub).
        pairs: Two folders with images of the same names, instead of a tokenizer.
        generator: Generator whose samples are scored (suite gen).
        samples: Generated images, a folder or an npz file of ADM's layout (suite gen).
        reference: Real images, or an npz file with statistics or images (suite gen).
        n: Number of images: the first of a folder, or to generate.
        budget: Token budgets, such as 1,14,all (default: up to 16 legal ones).
        protocol: How images are cropped, rounded and scored: native, llamagen, titok, adm-rfid, vtbench, omnidoc.
        no_baselines: Leave out JPEG, WebP, AVIF and thumbnails at the same rate.
        latent_bits: Bits per value that continuous latents are rounded to, such as 2,4,8: one row each (default: these
            in quick and standard).
        weights: Files of metric networks: lpips-alex, lpips-vgg, inception, ...; NETWORK=download fetches one.
        allow_unknown_weights: Use a network file of unknown origin; results are marked.
        force_fid: FID even below 2049 images.
        engine: Text recognition: rapidocr or tesseract.
        fonts: Font files for the text task: latin, chinese, japanese, korean, hindi.
        conditions: Conditions on the result, such as "psnr>=20" or "mini/var@14:ssim>0.5".
        max_skipped: Images that may be left out before the exit status is 1.
        seed: Of charts, texts and bootstrap.
        device: Where to compute: cpu, cuda, mps.
        json: Print the result as JSON.
    """
    from smalti.eval.report.eval_page import write_report
    from smalti.eval.run.asserts import failures, parse
    from smalti.eval.run.evaluate import Settings, evaluate_pairs, evaluate_tokenizers
    from smalti.eval.run.sources import folder, packaged
    from smalti.eval.run.sources import pairs as paired
    from smalti.eval.run.suites import SUITES

    parsed = [parse(text) for text in conditions]
    asked = [bool(tokenizer), bool(pairs), bool(generator or samples)]
    if sum(asked) != 1:
        raise ValueError("say what to evaluate: --tokenizer NAME, or --pairs A B, or --generator NAME / --samples DIR")
    settings = Settings(
        protocol=protocol or (SUITES[suite].protocol if suite in SUITES else "native"),
        seed=seed,
        baselines=not no_baselines,
        latent_bits=_depths(latent_bits),
        weights=_named_files(weights, _WEIGHTS),
        allow_unknown_weights=allow_unknown_weights,
        force_fid=force_fid,
        engine=engine,
        fonts=_named_files(fonts, "--fonts takes SCRIPT=FILE, such as hindi=NotoSansDevanagari.ttf"),
    )
    if pairs:
        if len(pairs) != 2:
            raise ValueError(f"--pairs takes two folders, originals and reconstructions; got {len(pairs)}")
        originals, reconstructions = paired(*pairs)
        result = evaluate_pairs(originals, reconstructions, out, settings, name=str(pairs[1]))
    elif generator or samples:
        from smalti.eval.run.generation import evaluate_generation

        result = evaluate_generation(
            generator=generator, samples=samples, reference=reference, n=n, out=out, settings=settings, device=device
        )
    else:
        models = [load_tokenizer(name, device) for name in tokenizer]
        if budget is not None:
            settings = _with_budgets(settings, budget, models)
        if suite == "vtbench":
            from smalti.eval.run.vtbench import evaluate_vtbench

            result = evaluate_vtbench(models, data, out, settings, n)
        elif suite == "gen":
            raise ValueError("suite gen scores images: give --generator NAME or --samples DIR")
        else:
            chosen = SUITES[suite]
            if data is None and chosen.needs_data:
                raise ValueError(f"suite {suite} needs your images: give --data DIR (suite quick needs none)")
            source: Source = packaged() if data is None else folder(data, limit=n)
            result = evaluate_tokenizers(models, source, chosen, out, settings, suite)
    report = write_report(result, out)
    _show(result, report, json)
    failed = failures(result, parsed)
    for line in failed:
        print(f"does not hold: {line}")
    images = [s for s in result.skipped if s.what not in _metric_names()]
    if len(images) > max_skipped:
        print(f"{len(images)} images were left out, allowed are {max_skipped}; the first: {images[0].reason}")
    return int(bool(failed) or len(images) > max_skipped)


def _metric_names() -> set[str]:
    """Names of metrics and VTBench's splits in the list of what was skipped; everything else there is an image."""
    from smalti.eval.run.result import METRICS
    from smalti.eval.run.vtbench_data import SPLITS

    return {*METRICS, "kid, precision, recall", *(split.label for split in SPLITS)}


_WEIGHTS = "--weights takes NETWORK=FILE, such as lpips-alex=alexnet-owt-7be5be79.pth"


def _named_files(given: Sequence[str], usage: str) -> dict[str, str]:
    files = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or not path:
            raise ValueError(f"{usage}; got {text!r}")
        files[name] = path
    return files


def _depths(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not parts or not all(part.isdigit() for part in parts):
        raise ValueError(f"--latent-bits takes numbers such as 2,4,8; got {text!r}")
    return tuple(int(part) for part in parts)


def _with_budgets(settings: "Settings", budget: str, models: "Sequence[Tokenizer]") -> "Settings":
    from dataclasses import replace

    from smalti.cli.console import budget_list
    from smalti.eval.budgets import budgets_of

    if len({m.layout() for m in models}) > 1:
        raise ValueError("--budget goes with tokenizers of one layout: evaluate the others in runs of their own")
    return replace(settings, budgets=tuple(budget_list(budget, budgets_of(models[0].layout()))))


def _show(result: "EvalResult", report: Path, json: bool) -> None:
    from smalti.eval.run.speeds import speeds
    from smalti.eval.run.tables import blocks, reasons

    if json:
        print_json(result.to_dict() | {"report": str(report)})
        return
    speed = speeds(result) if result.suite == "standard" else None
    for title, header, body in [*blocks(result), *([speed] if speed else [])]:
        print(f"\n{title}")
        print_table(header, body)
    for reason, names in list(reasons(result.skipped).items())[:12]:
        print(f"not measured: {', '.join(names)}: {reason}")
    print(f"\n{report}")


def doctor(*, weights: Annotated[tuple[str, ...], arg(metavar="NETWORK=FILE [...]")] = (), json: bool = False) -> None:
    """Which metrics can run here, and for the others what is missing and how to get it. Downloads nothing.

    Args:
        weights: Files of metric networks to check.
        json: Print JSON.
    """
    from smalti.eval.doctor import doctor as examine
    from smalti.eval.doctor import doctor_text

    checks = examine(_named_files(weights, _WEIGHTS))
    if json:
        print_json([check.to_dict() for check in checks])
    else:
        print(doctor_text(checks))


def main(arguments: Sequence[str]) -> int:
    """Entry of the verb."""
    if arguments and arguments[0] == "doctor":
        return call(doctor, "eval doctor", arguments[1:])
    return call(evaluate, "eval", arguments)
