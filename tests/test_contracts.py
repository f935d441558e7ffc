"""Proves that every generator family keeps its contract: toys of three shapes and the real ones.

Teacher forcing against step-by-step decoding, batch invariance, known tokens, hand-over, guidance, gradients.
(`tests/test_tokenizer_contract.py` does the same for tokenizers.)
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from smalti.decoding.guidance import Guidance
from smalti.decoding.known import Known
from smalti.decoding.loop import Partial, Stage, decode
from smalti.decoding.noise import Noise
from smalti.decoding.prediction import Velocity
from smalti.decoding.sampling import Sampling
from smalti.generators.base import Condition, Generator
from smalti.hub.families import FAMILIES as FAMILIES_OF_THE_HUB
from smalti.nn.linear import can_pack, pack_linears, unpack_linears
from smalti.tokens import PAD, Tokens
from tests.own_method import Bigrams, MeanColor
from tests.tiny import gathered
from tests.tiny.generators import Generators
from tests.toys import toy_pairs


def _own() -> Generators:
    torch.manual_seed(3)
    return Generators(tokenizer=MeanColor().eval(), first=Bigrams().eval(), second=Bigrams().eval())


def _toy(name: str) -> Generators:
    tokenizer, first, second = toy_pairs()[name]
    return Generators(tokenizer=tokenizer, first=first, second=second)


FAMILIES: dict[str, Callable[[], Generators]] = {
    **{name: (lambda name=name: _toy(name)) for name in toy_pairs()},
    "own method": _own,
    **gathered("GENERATORS"),
}
CONTINUOUS = [name for name, make in FAMILIES.items() if make().first.layout.continuous]
CONFIDENT = [name for name, make in FAMILIES.items() if make().first.schedule().by_confidence]
OBJECTIVES = [name for name, make in gathered("GENERATORS").items() if make().objective is not None]


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Generators:
    """One family after the other."""
    return FAMILIES[request.param]()


def generate(
    family: Generators, stages: list[Stage], classes: list[int], seed: int = 0, known: Known | None = None
) -> list[Partial]:
    """All steps of a generation."""
    condition, feedback = family.condition(classes), family.tokenizer.feedback(len(classes))
    noise = Noise.of(seed, len(classes))
    return list(decode(stages, condition, feedback=feedback, noise=noise, known=known))


def guided(model: Generator, until: int | None = None) -> Stage:
    """A stage with guidance and full sampling."""
    return Stage(model=model, guidance=Guidance(scale=2.0, curve="linear"), sampling=Sampling(top_p=0.95), until=until)


# generators


def test_decoding_step_by_step_equals_teacher_forcing(family: Generators) -> None:
    """The log-probability of every choice equals that of the teacher-forced pass: caches change nothing."""
    if family.first.layout.continuous:
        pytest.skip("latents have velocities, which the next test compares")
    if family.first.schedule().by_confidence:
        pytest.skip("what is predicted depends on what is masked: the test after the next compares")
    partials = generate(family, [Stage(model=family.first)], [0, 1])
    tokens = Tokens(layout=family.first.layout, ids=partials[-1].values.clone())
    with torch.no_grad():
        prediction = family.first(tokens, family.condition([0, 1]), feedback=family.tokenizer.feedback(2))
    logprobs = prediction.logits_RBnV[0].log_softmax(-1).gather(-1, tokens.ids[..., None])[..., 0]
    for partial, step in zip(partials, family.first.schedule(), strict=True):
        assert partial.choice is not None and partial.choice.logprobs is not None
        assert torch.allclose(partial.choice.logprobs, logprobs[:, step.positions], atol=1e-5)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_velocities_step_by_step_equal_teacher_forcing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The velocity of a noisy latent at every token equals that of the teacher-forced pass."""
    family = FAMILIES[name]()
    model, steps = family.first, family.first.schedule()
    latents = generate(family, [Stage(model=model)], [0, 1])[-1].values.clone()
    noisy, seen, predict = torch.randn(latents.shape, generator=torch.Generator().manual_seed(1)), [], model.predict

    def spy(state: object) -> Velocity:
        prediction = predict(state)
        assert isinstance(prediction, Velocity)
        seen.append(prediction.net(noisy[:, steps[len(seen)].positions], 1))
        return prediction

    with monkeypatch.context() as patch:
        patch.setattr(model, "predict", spy)
        again = generate(family, [Stage(model=model)], [0, 1])[-1].values
    assert torch.equal(again, latents)
    tokens = Tokens(layout=model.layout, latents=latents)
    with torch.no_grad():
        whole = model(tokens, family.condition([0, 1]), feedback=family.tokenizer.feedback(2)).net(noisy, 1)
    for step, velocity in zip(steps, seen, strict=True):
        assert torch.allclose(velocity, whole[:, step.positions], atol=1e-5)


@pytest.mark.parametrize("name", CONFIDENT)
def test_confident_choices_equal_the_pass_over_what_was_known(name: str) -> None:
    """The log-probability of every choice equals that of a pass with everything masked that was open."""
    family = FAMILIES[name]()
    values = torch.full((2, family.first.layout.length), PAD)
    for partial in generate(family, [Stage(model=family.first)], [0, 1]):
        with torch.no_grad():
            tokens = Tokens(layout=family.first.layout, ids=values)
            logits = family.first(tokens, family.condition([0, 1])).logits_RBnV[0]
        choice, values = partial.choice, partial.values.clone()
        assert choice is not None and choice.positions is not None and choice.logprobs is not None
        assert torch.equal(values.gather(1, choice.positions), choice.ids)
        rows = torch.arange(2)[:, None]
        assert torch.allclose(choice.logprobs, logits.log_softmax(-1)[rows, choice.positions, choice.ids], atol=1e-5)
    assert (values != PAD).all()


def test_an_image_is_the_same_alone_and_in_a_batch(family: Generators) -> None:
    """Noise belongs to the image: image 2 of seed 4 equals image 0 of seed 6."""
    batch = generate(family, [guided(family.first)], [0, 1, 2], seed=4)[-1].values
    alone = generate(family, [guided(family.first)], [2], seed=6)[-1].values
    assert torch.allclose(batch[2:].float(), alone.float(), atol=1e-5)


def test_hand_over_at_either_end_is_one_model_alone(family: Generators) -> None:
    """After 0 steps the second model does everything, after all steps the first."""
    steps = len(family.first.schedule())
    for until, alone in ((0, family.second), (steps, family.first)):
        stages = [guided(family.first, until=until), guided(family.second)]
        pair = generate(family, stages, [0, 1])[-1].values
        assert torch.allclose(pair, generate(family, [guided(alone)], [0, 1])[-1].values, atol=1e-5)


def test_hand_over_in_the_middle_keeps_the_first_part(family: Generators) -> None:
    """The drafter's tokens stay, and the step numbers count in the full schedule."""
    stages = [guided(family.first, until=1), guided(family.second)]
    partials = generate(family, stages, [0, 1])
    first = generate(family, [guided(family.first)], [0, 1])[0]
    assert torch.allclose(partials[-1].values[first.decided].float(), first.values[first.decided].float(), atol=1e-6)
    assert [p.step for p in partials] == list(range(len(family.first.schedule())))


def test_a_model_handing_over_to_itself_changes_nothing(family: Generators) -> None:
    """The one-pass prefix equals the cached steps."""
    stages = [guided(family.first, until=2), guided(family.first)]
    pair, alone = generate(family, stages, [0, 1]), generate(family, [guided(family.first)], [0, 1])
    assert torch.allclose(pair[-1].values.float(), alone[-1].values.float(), atol=1e-4)


def test_known_tokens_stay(family: Generators) -> None:
    """Kept positions hold the given tokens; a fully known sequence is returned as it is, without a draw."""
    given = generate(family, [guided(family.first)], [1, 2], seed=9)[-1].values.clone()
    keep = torch.rand(given.shape[:2], generator=torch.Generator().manual_seed(1)) < 0.5
    out = generate(family, [guided(family.first)], [0, 0], known=Known(values=given, keep=keep))[-1].values
    assert torch.equal(out[keep], given[keep])
    everything = Known(values=given, keep=torch.ones_like(keep))
    partials = generate(family, [guided(family.first)], [0, 0], known=everything)
    assert torch.equal(partials[-1].values, given) and all(p.choice is None for p in partials)


def test_known_first_steps_equal_the_run_that_made_them(family: Generators) -> None:
    """Continuing a prefix in one pass gives what the cached run gave."""
    partials = generate(family, [guided(family.first)], [0, 1])
    whole, keep = partials[-1].values, partials[1].decided
    again = generate(family, [guided(family.first)], [0, 1], known=Known(values=whole.clone(), keep=keep))
    assert torch.allclose(again[-1].values.float(), whole.float(), atol=1e-4)  # ids are equal
    assert again[0].step == 1 and again[0].choice is None


def test_guidance_of_one_runs_no_null_rows(family: Generators, monkeypatch: pytest.MonkeyPatch) -> None:
    """Scale 1 equals the plain conditional model and asks for one branch only."""
    seen: list[tuple[str, ...]] = []
    begin = family.first.begin

    def spy(condition: Condition, **arguments: object) -> object:
        seen.append(tuple(arguments["branches"]))  # type: ignore[arg-type]
        return begin(condition, **arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(family.first, "begin", spy)
    generate(family, [Stage(model=family.first, guidance=Guidance(scale=1.0))], [0])
    generate(family, [Stage(model=family.first, guidance=Guidance(scale=1.5))], [0])
    assert seen == [("cond",), ("cond", "null")]


def test_guidance_scales_may_differ_per_image(family: Generators) -> None:
    """A batch with two scales equals two runs."""
    mixed = Stage(model=family.first, guidance=Guidance(scale=(1.0, 3.0)))
    both = generate(family, [mixed], [1, 1], seed=3)[-1].values
    for i, scale in enumerate((1.0, 3.0)):
        alone = generate(family, [Stage(model=family.first, guidance=Guidance(scale=scale))], [1], seed=3 + i)[
            -1
        ].values
        assert torch.allclose(both[i].float(), alone[0].float(), atol=1e-5)


def test_a_class_out_of_range_is_refused_before_the_first_step(family: Generators) -> None:
    """Nothing is yielded."""
    with pytest.raises(ValueError, match="out of range"):
        next(decode([Stage(model=family.first)], Condition.of_classes([99]),
                    feedback=family.tokenizer.feedback(1), noise=Noise.of(0, 1)))  # fmt: skip


def test_generators_of_different_tokenizers_cannot_be_chained() -> None:
    """The layouts differ, so the hand-over is refused."""
    toys = toy_pairs()
    stages = [Stage(model=toys["raster"][1], until=1), Stage(model=toys["two scales"][1])]
    with pytest.raises(ValueError, match="same token layout"):
        list(decode(stages, Condition.of_classes([0]), feedback=toys["raster"][0].feedback(1), noise=Noise.of(0, 1)))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_gradients_reach_every_parameter_of_the_generator(name: str) -> None:
    """No parameter is left out of the training loss, which is finite."""
    family = FAMILIES[name]()
    layout = family.first.layout
    assert family.objective is not None
    rng = torch.Generator().manual_seed(0)
    if layout.continuous:
        values = generate(family, [Stage(model=family.first)], [0, 1, 2, 0])[-1].values.clone()
    else:
        values = torch.stack([torch.randint(int(v), (4,), generator=rng) for v in layout.vocabs()], dim=1)
    objective = family.objective(family.first).train()
    totals = []
    for step in range(4):  # conditions may be dropped at random
        condition = family.condition([0, 1, 2, 0])
        if family.first.classes:
            condition = replace(condition, classes=condition.classes.index_fill(0, torch.tensor([3]), -1))
        totals.append(objective((values, condition), step, rng).total)
    torch.stack(totals).sum().backward()
    assert all(torch.isfinite(t) for t in totals)
    dead = [n for n, p in family.first.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not dead


@pytest.mark.parametrize("name", gathered("GENERATORS"))
def test_packed_weights_change_nothing_and_come_back(name: str) -> None:
    """Weights in the CPU's layout: the same tokens up to rounding, the same state dict bit for bit."""
    if not can_pack():
        pytest.skip("this build of torch multiplies no packed weights")
    family = FAMILIES[name]()
    before = {key: value.clone() for key, value in family.first.state_dict().items()}
    plain = generate(family, [guided(family.first)], [0, 1])
    assert pack_linears(family.first)
    packed = generate(family, [guided(family.first)], [0, 1])
    first = family.first.schedule()[0].positions
    assert first is None or torch.allclose(packed[0].values[:, first], plain[0].values[:, first], atol=1e-4)
    after = family.first.state_dict()
    assert before.keys() == after.keys() and all(torch.equal(before[key], after[key]) for key in before)
    with pytest.raises(ValueError, match="packed for inference"):
        family.first.train()
    assert not any(m.training for m in family.first.modules()), "a refusal changes nothing"
    unpack_linears(family.first)
    again = generate(family, [guided(family.first)], [0, 1])[-1].values
    assert torch.allclose(again.float(), plain[-1].values.float(), atol=1e-5)


def test_every_family_is_here() -> None:
    """A generator family without tiny models would escape this suite."""
    missing = {f.name for f in FAMILIES_OF_THE_HUB if f.role == "generator"} - {n.split(" ")[0] for n in FAMILIES}
    assert not missing
