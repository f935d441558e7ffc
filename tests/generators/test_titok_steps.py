"""The number of decoding steps as an argument: TiTok's masked generators take any, the sampler follows the authors'
rules, nothing of one call is left in the next, and models of a fixed number refuse.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import smalti
from smalti.decoding.guidance import Guidance
from smalti.decoding.known import Known
from smalti.decoding.sampling import Sampling
from smalti.decoding.settings import Settings
from smalti.generators.titok.config import Decay, authors_guidance, authors_sampling, decided_per_step
from smalti.generators.titok.resampling import resampled
from smalti.hub import load, save_pretrained
from smalti.pipeline import Generation, ImageGenerator, Preview
from tests.tiny import gathered
from tests.tiny.generators import Generators
from tests.tiny.titok import tiny_titok, tiny_titok_generator

TOKENS, STEPS = 6, 4
SCALE, TEMPERATURE = 2.5, 3.0
ASKED: dict[str, Any] = {"classes": [1, 2], "n": 2, "seed": 3}


def settings_of(steps: int) -> Settings:
    """The authors' sampler."""
    guidance, sampling = authors_guidance(SCALE, "linear", steps), authors_sampling(TEMPERATURE, steps)
    return Settings(guidance=guidance, sampling=sampling)


def pipeline(kind: str = "uvit") -> ImageGenerator:
    """6 tokens in 4 steps, with settings for them."""
    model = tiny_titok_generator(kind=kind, steps=STEPS)
    return ImageGenerator(generator=model, tokenizer=tiny_titok(), settings=settings_of(STEPS), name="test/titok")


def by_hand(steps: int, **options: Any) -> Generation:
    """The setting of the model and the authors' tables of as many steps."""
    model = replace(pipeline(), settings=settings_of(steps))
    model.generator.steps = steps  # type: ignore[assignment]
    return model.generate(**ASKED, **options)


def ids_of(made: Generation | Preview) -> Tensor:
    """[B, L]."""
    assert made.tokens.ids is not None
    return made.tokens.ids


# ---- any number ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 2, 3, STEPS, 7])
def test_any_number_of_steps_is_the_authors_sampler_of_that_number(steps: int) -> None:
    """The same ids as by hand, the settings and provenance say which; the model keeps its own."""
    model = pipeline()
    made = model.generate(**ASKED, steps=steps)
    assert torch.equal(ids_of(made), ids_of(by_hand(steps)))
    assert made.settings == settings_of(steps) and made.provenance["steps"] == steps
    assert model.settings == settings_of(STEPS) and model.generator.steps == STEPS
    assert model.generate(**ASKED).provenance["steps"] == STEPS


def test_calls_and_paused_streams_do_not_disturb_each_other() -> None:
    """Three streams of one model take turns, with whole generations between them."""
    model, counts = pipeline(), (3, STEPS, 5)
    alone = {n: list(pipeline().stream(**ASKED, steps=n)) for n in counts}
    streams = {n: model.stream(**ASKED, steps=n) for n in counts}
    seen: dict[int, list[Preview]] = {n: [] for n in counts}
    for turn in range(max(counts)):
        for n in counts:
            seen[n] += [next(streams[n])] if turn < n else []
        assert model.generate(**ASKED, steps=2).provenance["steps"] == 2
    for n in counts:
        assert [p.steps for p in seen[n]] == [n] * n and [p.done for p in seen[n]] == [False] * (n - 1) + [True]
        assert all(torch.equal(a.images, b.images) for a, b in zip(seen[n], alone[n], strict=True))


def test_no_weight_is_copied() -> None:
    """A model of another number of steps trains, moves and counts as the one it came from."""
    model = pipeline()
    other = model.with_steps(9)
    assert all(a is b for a, b in zip(model.generator.parameters(), other.generator.parameters(), strict=True))
    assert len(other.generator.schedule()) == 9 and len(model.generator.schedule()) == STEPS
    assert [s.count for s in other.generator.schedule()] == list(decided_per_step(TOKENS, 9))


def test_a_saved_model_keeps_its_steps(tmp_path: Path) -> None:
    """Config and settings of the folder are those of the number chosen."""
    model = pipeline().with_steps(3)
    model.tokenizer.name = str(save_pretrained(model.tokenizer, tmp_path / "tokenizer", name="test/tokenizer"))
    again = load(save_pretrained(model, tmp_path / "model", license="Apache-2.0"))
    assert isinstance(again, ImageGenerator)
    assert len(again.generator.schedule()) == 3 and again.settings == settings_of(3)
    assert torch.equal(ids_of(again.generate(**ASKED)), ids_of(pipeline().generate(**ASKED, steps=3)))


# ---- with everything else --------------------------------------------------------------------------------------------


def test_known_tokens_hand_over_and_early_stop() -> None:
    """They count in the steps that were chosen."""
    model = pipeline()
    known = Known(values=torch.arange(TOKENS).repeat(4, 1), keep=torch.arange(TOKENS).expand(4, -1) % 3 == 0)
    kept = model.generate(**ASKED, steps=6, known=known)
    assert torch.equal(ids_of(kept), ids_of(by_hand(6, known=known)))
    assert torch.equal(ids_of(kept)[known.keep], known.values[known.keep])
    whole = model.generate(**ASKED, steps=6, budget=TOKENS)
    assert torch.equal(ids_of(whole), ids_of(by_hand(6)))

    second = replace(pipeline("vit"), tokenizer=model.tokenizer)
    both = model.generate(**ASKED, steps=6, then=second.with_steps(8), handover=5)
    assert torch.equal(ids_of(both), ids_of(by_hand(6, then=second.with_steps(8), handover=5)))
    assert (both.provenance["steps"], both.provenance["then"]["steps"]) == (6, 8)
    with pytest.raises(ValueError, match=r"0\.\.3; got 5"):
        model.generate(**ASKED, steps=3, then=second, handover=5)


def test_a_scale_keeps_the_curve_and_own_tables_are_checked() -> None:
    """What the caller gives is taken as it is."""
    model = pipeline()
    scaled = model.generate(**ASKED, steps=7, guidance=5.0)
    assert scaled.settings.guidance == replace(settings_of(7).guidance, scale=5.0)
    own = Sampling(temperature=tuple(range(7, 0, -1)))
    assert model.generate(**ASKED, steps=7, sampling=own).settings.sampling == own
    for options, words in (
        ({"guidance": settings_of(5).guidance}, "guidance has weights for 5 steps, the schedule has 7"),
        ({"sampling": settings_of(5).sampling}, "temperature has 5 values, one per step; the schedule has 7 steps"),
        ({"sampling": Sampling(top_k=(3, 2))}, "top_k has 2 values"),
    ):
        with pytest.raises(ValueError, match=words):
            model.generate(**ASKED, steps=7, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("steps", [0, -2, 2.5])
def test_what_is_no_number_of_steps_is_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1, got {steps}"):
        pipeline().generate(**ASKED, steps=steps)


@pytest.mark.parametrize("name", [n for n in gathered("GENERATORS") if not n.startswith("titok")])
def test_models_of_a_fixed_number_refuse(name: str) -> None:
    """Whatever the number; a generation is not begun."""
    family: Generators = gathered("GENERATORS")[name]()
    model, fixed = family.first, len(family.first.schedule())
    for steps in (fixed, fixed + 1):
        with pytest.raises(ValueError, match=f"fixed number of steps, {fixed}: leave out steps={steps}"):
            model.with_steps(steps, Settings())


# ---- the authors' rules ----------------------------------------------------------------------------------------------

RULES: Sequence[tuple[Decay, float]] = (
    ("constant", 1.0), ("linear", 1.0), ("power-cosine", 3.0), ("power-cosine", 1.0), ("power-cosine", 0.75)
)  # fmt: skip


@pytest.mark.parametrize(("decay", "power"), RULES)
@pytest.mark.parametrize("softened", [True, False])
@pytest.mark.parametrize("temperature", [0.0, 2.8, 11.0])
def test_tables_are_made_anew_by_the_rule_that_made_them(
    decay: Decay, power: float, softened: bool, temperature: float
) -> None:
    """Exactly, from any number of steps to any other."""

    def made(steps: int) -> Settings:
        sampling = replace(authors_sampling(temperature, steps, softened=softened), top_k=7)
        return Settings(guidance=authors_guidance(4.5, decay, steps, power), sampling=sampling, handover=2)

    for before in (3, 8, 64, 250):
        for after in (1, 2, 5, 64, 300):
            assert resampled(made(before), after) == made(after)


def test_what_no_rule_made_stays() -> None:
    """Other tables, tables too short to tell, and single numbers."""
    for guidance, sampling in (
        (Guidance(scale=3.0, curve=(0.0, 0.3, 0.9)), Sampling(temperature=(3.0, 2.0, 2.0))),
        (authors_guidance(4.0, "power-cosine", 2), authors_sampling(4.0, 2)),
        (Guidance(scale=3.0, curve="cosine"), Sampling(temperature=0.7, top_k=(5, 4, 3))),
        (Guidance(scale=3.0, curve=(1.0, 1.0, 1.0)), Sampling.greedy()),
    ):
        own = Settings(guidance=guidance, sampling=sampling)
        assert resampled(own, 9) == own


@pytest.mark.parametrize(("name", "steps"), [("l32", 16), ("b64", 12), ("s128", 16)])
def test_published_settings_at_another_number_of_steps(name: str, steps: int) -> None:
    """Guidance and temperature of the benchmark script, on the grid of the number asked for."""
    published = smalti.model_info(f"titok/generator-{name}").settings
    scale, decay, temperature = {
        "l32": (4.5, "linear", 9.5), "b64": (3.0, "linear", 11.0), "s128": (6.9, "power-cosine", 2.8)
    }[name]  # fmt: skip
    guidance, sampling = authors_guidance(scale, decay, steps), authors_sampling(temperature, steps)  # type: ignore[arg-type]
    assert resampled(published, steps) == replace(published, guidance=guidance, sampling=sampling)
