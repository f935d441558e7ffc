"""TiTok's masked generators beyond their goldens: the authors' sampler written out, known tokens in any number,
hand-over with models of another size, number of steps or order, the number of steps, and what the objective masks.
"""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from smalti.decoding.guidance import Guidance
from smalti.decoding.known import Known
from smalti.decoding.loop import Partial, Stage, decode
from smalti.decoding.noise import Noise
from smalti.decoding.sampling import Sampling
from smalti.decoding.schedules import raster
from smalti.generators.base import Condition, Generator
from smalti.generators.titok.config import (
    TiTokGeneratorConfig,
    authors_guidance,
    authors_sampling,
    decided_per_step,
)
from smalti.generators.titok.model import TiTokGenerator
from smalti.generators.titok.objective import TiTokGeneratorObjective, TiTokGeneratorObjectiveConfig, masks
from smalti.pipeline import ImageGenerator
from smalti.tokenizers.base import NoFeedback
from smalti.tokens import PAD
from tests.tiny.titok import tiny_titok, tiny_titok_generator
from tests.toys import ToyGenerator

KINDS = ("vit", "uvit")
CLASSES = [0, 3, 1]
TOKENS, STEPS = 20, 6


def model_of(kind: str, **changes: object) -> TiTokGenerator:
    """20 tokens in 6 steps."""
    return tiny_titok_generator(**{"kind": kind, "tokens": TOKENS, "steps": STEPS, **changes})


def stage(model: Generator, until: int | None = None) -> Stage:
    """The authors' sampler."""
    steps = len(model.schedule())
    guidance, sampling = authors_guidance(2.0, "linear", steps), authors_sampling(1.5, steps)
    return Stage(model=model, guidance=guidance, sampling=sampling, until=until)


def run(
    stages: list[Stage], known: Known | None = None, classes: list[int] | None = None, seed: int = 0
) -> list[Partial]:
    """All steps of a generation."""
    condition = Condition.of_classes(CLASSES if classes is None else classes)
    noise = Noise.of(seed, len(condition))
    return list(decode(stages, condition, feedback=NoFeedback(), noise=noise, known=known))


def some_known(counts: list[int], seed: int = 1) -> Known:
    """Random ids at random places, as many per image as given."""
    rng = torch.Generator().manual_seed(seed)
    rank = torch.rand(len(counts), TOKENS, generator=rng).argsort(dim=1)
    return Known(
        values=torch.randint(64, (len(counts), TOKENS), generator=rng), keep=rank < torch.tensor(counts)[:, None]
    )


# ---- the authors' sampler --------------------------------------------------------------------------------------------


class Table(Noise):
    """Gumbel noise for every step and position, kept to be read twice."""

    def __init__(self, rows: int, seed: int) -> None:
        super().__init__(range(rows))
        rng = torch.Generator().manual_seed(seed)
        self.codes = -torch.empty(STEPS, rows, TOKENS, 64).exponential_(generator=rng).log()
        self.places = -torch.empty(STEPS, rows, TOKENS).exponential_(generator=rng).log()
        self.open = torch.arange(TOKENS).expand(rows, -1)

    def categorical(self, probs_BnV: Tensor, step: int) -> Tensor:
        """Gumbel-argmax at the open positions."""
        return (probs_BnV.log() + self.codes[step].take_along_dim(self.open[..., None], 1)).argmax(-1)

    def gumbel(self, step: int, shape: tuple[int, ...], *, stream: int = 0) -> Tensor:
        """The noise of the open positions."""
        assert stream == 1, "the codes are drawn by another stream"
        return self.places[step].gather(1, self.open)


def authors_ids(model: TiTokGenerator, condition: Condition, noise: Table, scale: float, temperature: float) -> Tensor:
    """The sampler as the authors state it, on whole sequences: softened logits, noise of one size on both, a cut."""
    ids, length = torch.full((len(condition), TOKENS), PAD), TOKENS
    for step in range(STEPS):
        ratio = (step + 1) / STEPS
        size = temperature * (1 - ratio)
        cond, null = model.logits(ids, condition), model.logits(ids, condition.null())
        logits = (cond + scale * step / STEPS * (cond - null)) / (0.5 + 0.8 * (1 - ratio))
        drawn = (logits + size * noise.codes[step]).argmax(-1)
        sure = logits.gather(-1, drawn[..., None])[..., 0] + size * noise.places[step]
        masked = ids == PAD
        drawn, sure = torch.where(masked, drawn, ids), sure.masked_fill(~masked, math.inf)
        left = max(1, min(int(masked[0].sum()) - 1, math.floor(length * math.acos(ratio) / (math.pi / 2))))
        cut = sure.sort(dim=-1).values[:, left - 1, None]
        ids = drawn if step == STEPS - 1 else drawn.masked_fill(sure <= cut, PAD)
    return ids


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("temperature", [0.0, 1.0, 6.0])
def test_the_loop_is_the_authors_sampler(kind: str, temperature: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """One temperature per step for codes and positions gives the same ids from the same noise."""
    model, condition, noise = model_of(kind), Condition.of_classes(CLASSES), Table(len(CLASSES), seed=3)
    predict = model.predict

    def spy(state: object) -> object:
        prediction = predict(state)  # type: ignore[arg-type]
        noise.open = prediction.positions_Bm
        return prediction

    monkeypatch.setattr(model, "predict", spy)
    guidance, sampling = authors_guidance(2.0, "linear", STEPS), authors_sampling(temperature, STEPS)
    ours = Stage(model=model, guidance=guidance, sampling=sampling)
    with torch.no_grad():
        theirs = authors_ids(model, condition, noise, 2.0, temperature)
    *_, last = decode([ours], condition, feedback=NoFeedback(), noise=noise)
    assert torch.equal(last.values, theirs)


@pytest.mark.parametrize("tokens", [1, 2, 7, 32, 64, 128])
@pytest.mark.parametrize("steps", [1, 2, 8, 63, 64, 100])
def test_every_token_has_its_step(tokens: int, steps: int) -> None:
    """Counts add up; up to as many steps as tokens, each step decides something."""
    counts = decided_per_step(tokens, steps)
    assert len(counts) == steps and sum(counts) == tokens and min(counts) >= (steps <= tokens)
    left = [tokens - sum(counts[: i + 1]) for i in range(steps - 1)]
    assert all(n <= max(1, tokens * math.acos((i + 1) / steps) / (math.pi / 2)) for i, n in enumerate(left))


def test_guidance_in_the_authors_words() -> None:
    """c + w g (c - u) is u + (1 + w g)(c - u); power-cosine is u + s (c - u) already."""
    assert [authors_guidance(3.0, "constant", 4).at(i, 4) for i in range(4)] == [4, 4, 4, 4]
    assert [authors_guidance(3.0, "linear", 4).at(i, 4) for i in range(4)] == [1, 1.75, 2.5, 3.25]
    cosine = [authors_guidance(6.9, "power-cosine", 64).at(i, 64) for i in range(64)]
    expected = [1 + 5.9 * (1 - math.cos(math.pi * (i / 64) ** 3)) / 2 for i in range(64)]
    assert cosine == pytest.approx(expected) and cosine[0] == 1
    with pytest.raises(ValueError, match="'cosine' is unknown; allowed: constant, linear, power-cosine"):
        authors_guidance(3.0, "cosine", 4)  # type: ignore[arg-type]


def test_temperature_in_the_authors_words() -> None:
    """It falls to 0 at the last step, times the softmax temperature where that is annealed."""
    assert authors_sampling(8.0, 4, softened=False).temperature == (6.0, 4.0, 2.0, 0.0)
    assert authors_sampling(8.0, 4).temperature == pytest.approx((6 * 1.1, 4 * 0.9, 2 * 0.7, 0))


# ---- steps -----------------------------------------------------------------------------------------------------------


def test_the_number_of_steps_is_a_setting_of_the_model() -> None:
    """The config has the published one; more steps than tokens are possible, none are not."""
    model = model_of("uvit")
    assert len(model.schedule()) == STEPS
    for steps in (1, 3, TOKENS + 5):
        model.steps = steps
        partials = run([stage(model)])
        assert len(partials) == steps and (partials[-1].values != PAD).all()
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            model.steps = wrong
        with pytest.raises(ValueError, match="at least 1"):
            TiTokGeneratorConfig(steps=wrong)


def test_settings_of_another_number_of_steps_are_refused_before_the_first_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both the curve and the temperatures have one value per step."""
    model = model_of("vit")
    monkeypatch.setattr(model, "begin", lambda *_, **__: pytest.fail("a generation has begun"))
    for settings in ({"guidance": authors_guidance(2.0, "linear", 5)}, {"sampling": authors_sampling(2.0, 5)}):
        with pytest.raises(ValueError, match=r"5 (steps|values)"):
            run([Stage(model=model, **settings)])


def test_wrong_sizes_are_refused() -> None:
    """With both numbers, or the names there are."""
    with pytest.raises(ValueError, match="width 30 and 4 heads"):
        TiTokGeneratorConfig(width=30, heads=4)
    with pytest.raises(ValueError, match="depth 3 is odd"):
        TiTokGeneratorConfig(kind="uvit", depth=3)
    with pytest.raises(ValueError, match="no dropout"):
        TiTokGeneratorConfig(kind="uvit", dropout=0.1)
    with pytest.raises(ValueError, match="vit, uvit, got 'bert'"):
        TiTokGeneratorConfig(kind="bert")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_rows_that_guide_no_more_are_dropped_without_a_trace(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Guidance that ends early: the same ids with the null rows kept to the end."""
    model = model_of(kind)
    early = Stage(model=model, guidance=Guidance(scale=3.0, curve="interval", stop=0.5), sampling=Sampling())
    dropped = run([early])[-1].values
    monkeypatch.setattr(model, "unguide", lambda state: False)
    assert torch.equal(dropped, run([early])[-1].values)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("guidance", "guided"),
    [
        (authors_guidance(2.0, "linear", STEPS), (1, 2, 3, 4, 5)),
        (Guidance(scale=3.0, curve="interval", start=0.3, stop=0.7), (2, 3)),
        (Guidance(scale=(3.0, 1.0, 2.0), curve=(1.0, 0.0, 0.5, 0.0, 1.0, 0.0)), (0, 2, 4)),
        (Guidance(scale=3.0), (0, 1, 2, 3, 4, 5)),
    ],
)
@pytest.mark.parametrize("kept", [0, 4])
def test_null_rows_rest_in_steps_that_are_not_guided(
    kind: str, guidance: Guidance, guided: tuple[int, ...], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, between and behind the guided ones; ids stay the same, log-probabilities up to rounding."""
    model, rows = model_of(kind), []
    model.trunk.register_forward_pre_hook(lambda _, args: rows.append(len(args[0])))
    chosen, known = Stage(model=model, guidance=guidance), some_known([kept] * 3) if kept else None
    fewer = [p for p in run([chosen], known) if p.choice is not None]
    steps = [p.step for p in fewer]
    assert rows == [6 if i in guided else 3 for i in steps]
    monkeypatch.setattr(model, "guide", lambda state, guided: None)
    monkeypatch.setattr(model, "unguide", lambda state: False)
    rows.clear()
    all_rows = [p for p in run([chosen], known) if p.choice is not None]
    assert rows == [6] * len(steps) and len(steps) > STEPS - 3
    for a, b in zip(fewer, all_rows, strict=True):
        assert torch.equal(a.values, b.values)
        assert torch.allclose(a.choice.logprobs, b.choice.logprobs, atol=1e-5)  # type: ignore[union-attr, arg-type]


# ---- known tokens ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("counts", [[3, 11, 0], [1, 1, 1], [20, 5, 12], [19, 20, 20]])
def test_kept_tokens_stay_and_every_position_is_decided_once(kind: str, counts: list[int]) -> None:
    """Images of one batch may keep different numbers of tokens; every step decides as many in each."""
    model, known = model_of(kind), some_known(counts)
    partials = run([stage(model)], known)
    assert torch.equal(partials[-1].values[known.keep], known.values[known.keep])
    schedule = model.schedule()
    start = sum(end <= min(counts) for end in schedule.ends)
    made = [p for p in partials if p.choice is not None]
    assert [p.step for p in made] == list(range(start, STEPS))
    for p in made:
        assert p.choice.positions.shape == (3, schedule[p.step].count)
    decided = torch.cat([p.choice.positions for p in made], dim=1)
    before = schedule.ends[start - 1] if start else 0
    assert all(len(set(row)) == TOKENS - before for row in decided.tolist()), "no position twice"
    for i, row in enumerate(decided.tolist()):
        assert set(range(TOKENS)) - set(row) <= set(known.keep[i].nonzero()[:, 0].tolist())


def test_known_tokens_are_seen_from_the_start() -> None:
    """Also those that are not counted as decided yet: they change the first prediction."""
    model, condition = model_of("vit"), Condition.of_classes([1])
    known = some_known([2])
    assert model.schedule().ends[0] > 2
    with torch.no_grad():
        seen = model.predict(model.begin(condition, feedback=NoFeedback(), known=known.alone()))
        blind = model.predict(model.begin(condition, feedback=NoFeedback()))
        expected = model.logits(known.alone(), condition)
    assert torch.allclose(seen.logits_RBmV[0], expected, atol=1e-5)
    assert not torch.allclose(seen.logits_RBmV, blind.logits_RBmV, atol=1e-2)


def test_all_known_tokens_return_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is run."""
    model, known = model_of("uvit"), some_known([TOKENS] * 3)
    monkeypatch.setattr(model, "begin", lambda *_, **__: pytest.fail("a generation has begun"))
    partials = run([stage(model)], known)
    assert len(partials) == 1 and torch.equal(partials[0].values, known.values)


def test_an_image_does_not_depend_on_how_much_its_neighbors_keep() -> None:
    """Alone it begins at a later step, with the same result."""
    model, known = model_of("uvit"), some_known([3, 14, 8])
    batch = run([stage(model)], known, seed=5)[-1].values
    for i in range(3):
        alone = run([stage(model)], known[slice(i, i + 1)], classes=[CLASSES[i]], seed=5 + i)[-1].values
        assert torch.equal(batch[i], alone[0])


# ---- hand-over -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [STEPS, 4, 11])
def test_masked_models_of_another_size_and_number_of_steps_take_over(steps: int) -> None:
    """What the first decided stays; the second goes on where its own schedule is as far."""
    first = model_of("vit")
    second = model_of("uvit", depth=4, width=24, heads=3, steps=steps)
    partials = run([stage(first, until=3), stage(second)])
    third = next(p for p in run([stage(first)]) if p.step == 2)
    assert torch.equal(partials[-1].values[third.decided], third.values[third.decided])
    assert (partials[-1].values != PAD).all() and int(third.decided.sum(1).max()) == first.schedule().ends[2]
    assert partials[-1].step == steps - 1
    alone = run([stage(second)])[-1].values
    assert torch.equal(run([stage(first, until=0), stage(second)])[-1].values, alone)
    assert torch.equal(run([stage(first, until=STEPS), stage(second)])[-1].values, run([stage(first)])[-1].values)


def test_raster_and_masked_models_take_over_from_each_other() -> None:
    """In both directions every position is decided, and the first part is kept."""
    masked = model_of("vit")
    torch.manual_seed(0)
    toy = ToyGenerator(masked.layout, raster(masked.layout), classes=5).eval()
    for first, second, until in ((toy, masked, 7), (masked, toy, 3)):
        stages = [Stage(model=first, until=until), Stage(model=second)]
        partials = run(stages)
        part = next(p for p in partials if p.step == until - 1)
        assert int(part.decided.sum(1).min()) == first.schedule().ends[until - 1]
        last = partials[-1]
        assert torch.equal(last.values[part.decided], part.values[part.decided])
        assert last.decided.all() and ((last.values >= 0) & (last.values < 64)).all()


# ---- objective -------------------------------------------------------------------------------------------------------


def test_masks_follow_the_arccos_law() -> None:
    """The share is arccos(t) / (pi / 2) with t uniform: its mean is 2 / pi, and at least one token is masked."""
    mask = masks(4000, TOKENS, torch.Generator().manual_seed(0))
    share = mask.float().mean(1)
    assert float(share.mean()) == pytest.approx(2 / math.pi, abs=0.01)
    assert float((share <= 0.5).float().mean()) == pytest.approx(1 - math.cos(math.pi / 4), abs=0.03)
    assert mask.any(1).all() and float(mask.float().mean(0).std()) < 0.02, "no place is preferred"
    assert masks(1000, 1, torch.Generator().manual_seed(0)).all()


def test_the_loss_weighs_what_was_masked() -> None:
    """Written out; weights of 0 take images out."""
    model = model_of("vit", dropout=0.0)
    objective = TiTokGeneratorObjective(model, None, TiTokGeneratorObjectiveConfig(label_smoothing=0.2, unmasked=0.3))
    ids, mask = some_known([0] * 3).values, some_known([12, 4, 1]).keep
    logits = torch.randn(3, TOKENS, 64, generator=torch.Generator().manual_seed(0))
    target = 0.8 * F.one_hot(ids, 64) + 0.2 / 64
    each = -(target * logits.log_softmax(-1)).sum(-1)
    weight = torch.where(mask, 1.0, 0.3)
    losses = objective.losses(logits, ids, mask)
    assert losses.total == pytest.approx(float((each * weight).sum() / weight.sum()), rel=1e-5)
    right = (logits.argmax(-1) == ids) & mask
    assert losses.parts["accuracy"] == right.sum() / mask.sum()
    part = objective.losses(logits, ids, mask, torch.tensor([0.0, 1.0, 0.0])).total
    assert part == pytest.approx(float((each * weight)[1].sum() / weight[1].sum()), rel=1e-5)


def test_classes_are_dropped_in_training_only() -> None:
    """With a share of 1 the class makes no difference any more."""
    objective = TiTokGeneratorObjective(model_of("uvit"), config=TiTokGeneratorObjectiveConfig(condition_dropout=1.0))
    ids = some_known([0] * 3).values

    def total(classes: list[int]) -> Tensor:
        with torch.no_grad():
            return objective((ids, Condition.of_classes(classes)), 0, torch.Generator().manual_seed(2)).total

    assert torch.equal(total([0, 1, 2]), total([4, 4, 4]))
    objective.eval()
    assert not torch.equal(total([0, 1, 2]), total([4, 4, 4]))
    with pytest.raises(ValueError, match="no teacher"):
        TiTokGeneratorObjective(model_of("vit"), teacher=model_of("vit"))


# ---- pictures --------------------------------------------------------------------------------------------------------


def test_every_step_has_a_picture() -> None:
    """Undecided tokens are filled in, whichever are decided first."""
    pipeline = ImageGenerator(generator=tiny_titok_generator(), tokenizer=tiny_titok())
    previews = list(pipeline.stream(classes=[1, 2], n=3, seed=3))
    assert [p.step for p in previews] == [0, 1, 2, 3] and [p.done for p in previews] == [False] * 3 + [True]
    assert any((p.tokens.ids[:, 0] == PAD).any() for p in previews), "the first token is not always the surest"
    assert all(p.images.shape == (6, 3, 16, 16) for p in previews)
    made = pipeline.generate(classes=[1, 2], n=3, seed=3)
    assert torch.equal(previews[-1].images, made.images) and torch.equal(previews[-1].tokens.ids, made.tokens.ids)
