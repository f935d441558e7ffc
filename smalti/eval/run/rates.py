"""At which rates the tokenizers of a run are scored: token budgets, rounded latents, and codecs next to them."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from smalti.eval.baselines import Baseline, CodecBaseline, ThumbnailBaseline
from smalti.eval.budgets import budgets_of
from smalti.eval.codec_files import FORMATS, available
from smalti.eval.latent_codes import check_depths
from smalti.eval.protocols.base import Protocol
from smalti.eval.run.latent_rows import calibrated
from smalti.eval.run.sources import Source
from smalti.eval.run.subjects import TokenizerSubject
from smalti.eval.run.suites import Suite
from smalti.tokenizers.base import Tokenizer

if TYPE_CHECKING:
    from smalti.eval.run.evaluate import Settings


def subjects_of(
    tokenizers: Sequence[Tokenizer], source: Source, protocol: Protocol, settings: "Settings", suite: Suite
) -> list[TokenizerSubject]:
    """The tokenizers with their budgets and baselines.

    Errors: ValueError for an illegal budget or depth, or depths that no tokenizer has a use for, before any image is
    read.
    """
    depths = _depths(tokenizers, settings, suite)
    subjects = [_budgeted(t, protocol, settings, suite) for t in tokenizers]
    for subject in subjects:
        tokenizer = subject.tokenizer
        wanted = settings.baselines and suite.baselines and not tokenizer.frames
        if tokenizer.layout().continuous:
            found = calibrated(subject, source, depths)
            subject.quantizers = found.quantizers
            rates = list(found.bpp.values())
        else:
            rates = [_whole_rate(subject)] if wanted else []
        if wanted:
            subject.baselines = [baseline for rate in rates for baseline in _baselines(rate)]
    return subjects


def _depths(tokenizers: Sequence[Tokenizer], settings: "Settings", suite: Suite) -> tuple[int, ...]:
    if settings.latent_bits is None:
        return suite.latent_bits if settings.baselines else ()
    if settings.latent_bits and not any(t.layout().continuous for t in tokenizers):
        names = ", ".join(t.name or "this tokenizer" for t in tokenizers)
        raise ValueError(f"bits per value are for continuous latents; {names} has a codebook, whose bits are known")
    return check_depths(settings.latent_bits)


def _budgeted(tokenizer: Tokenizer, protocol: Protocol, settings: "Settings", suite: Suite) -> TokenizerSubject:
    layout = tokenizer.layout(protocol.size)
    budgets = list(settings.budgets) or budgets_of(layout)
    if not suite.reconstruction:
        budgets = budgets[-1:]
    for k in budgets:
        layout.check_prefix(k)
    return TokenizerSubject(tokenizer, budgets, protocol)


def _whole_rate(subject: TokenizerSubject) -> float:
    """Nominal bits per pixel of the largest budget."""
    tokenizer = subject.tokenizer
    layout = tokenizer.layout(subject.protocol.size)
    size = tokenizer.image_size(layout) or (tokenizer.sizes.value, tokenizer.sizes.value)
    return layout.bits(subject.budgets[-1]) / (size[0] * size[1])


def _baselines(bpp: float) -> Iterator[Baseline]:
    yield from (CodecBaseline(kind, bpp) for kind in FORMATS if available(kind))
    yield ThumbnailBaseline(bpp)
