"""VTBench's text scores: the recognition of a reconstruction against the recognition of its original.

The dataset gives no text that we know of, so what a reader makes of the original stands for the truth. That is
VTBench's own way; errors that the reader makes on both images alike stay unseen, and the numbers are marked so.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from smalti.eval.progress import stage
from smalti.eval.protocols.base import Protocol
from smalti.eval.protocols.pixels import finish
from smalti.eval.protocols.texts import text_result
from smalti.eval.run.chunks import Chunk, ChunkStore
from smalti.eval.run.result import METRICS, Skip, Value
from smalti.eval.run.sources import Source
from smalti.eval.text.ocr import EngineMissingError, Reader, reader
from smalti.eval.text.scripts import SCRIPTS

NOTE = "against the recognition of the original, not against known text"
NAMES = {"cer": "cer_to_original", "wer": "wer_to_original"}


def text_against_original(
    source: Source,
    image: Callable[[int], Tensor],
    reconstruct: Callable[[Tensor], Tensor],
    protocol: Protocol,
    *,
    script: str,
    engine: str,
    work: Path,
    plan: dict[str, Any],
    chunk: int = 8,
) -> tuple[dict[str, Value], dict[str, Any], list[Skip]]:
    """CER and (Latin script only) WER of a split; all scores as plain data; what was left out.

    `image(i)`: source image i as it is encoded, [1, 3, H, W]. Readings are kept in `work`; a killed run goes on.
    """
    try:
        found = reader(engine)
    except EngineMissingError as error:
        return {}, {}, [Skip(what=name, reason=str(error)) for name in NAMES.values()]
    alphabet = next((s.alphabet for s in SCRIPTS if s.name == script), tuple("abcxyz"))
    if not found.reads(script, alphabet):
        reason = f"not measurable here: {found.label} does not know the characters of {script}"
        return {}, {}, [Skip(what=name, reason=reason) for name in NAMES.values()]
    store = ChunkStore(work, plan | {"engine": found.label, "images": list(source.names), "chunk": chunk})
    count = -(-len(source) // chunk)
    pairs: list[list[str]] = []
    with stage(f"{source.name}: reading", count) as advance:
        for i in range(count):
            if not store.has(i):
                span = range(i * chunk, min((i + 1) * chunk, len(source)))
                store.write(i, Chunk(tensors={}, facts={"pairs": _pairs(span, image, reconstruct, protocol, found)}))
            pairs += store.read(i).facts["pairs"]
            advance()
    return _scores(pairs, protocol, script, found.label)


def _pairs(
    span: range,
    image: Callable[[int], Tensor],
    reconstruct: Callable[[Tensor], Tensor],
    protocol: Protocol,
    found: Reader,
) -> list[list[str]]:
    """What is read on both images; an image that cannot be read in was counted by the reconstruction already."""
    pairs = []
    for i in span:
        try:
            original = image(i)
            sides = finish(protocol, original, reconstruct(original))
        except (ValueError, OSError):
            continue
        pairs.append([found.pages(side)[0] for side in sides])
    return pairs


def _scores(
    pairs: list[list[str]], protocol: Protocol, script: str, label: str
) -> tuple[dict[str, Value], dict[str, Any], list[Skip]]:
    if not any(original.strip() for original, _ in pairs):
        reason = f"{label} found no text on any original"
        return {}, {}, [Skip(what=name, reason=reason) for name in NAMES.values()]
    result = text_result(protocol, *zip(*pairs, strict=True))
    wanted = [name for name in NAMES if name in result.values and (name == "cer" or script == "latin")]
    values = {}
    for name in wanted:
        unit, better = METRICS[NAMES[name]]
        values[NAMES[name]] = Value(value=result.values[name], n=result.n, unit=unit, better=better, note=NOTE)
    return values, result.to_dict() | {"engine": label, "truth": NOTE}, []
