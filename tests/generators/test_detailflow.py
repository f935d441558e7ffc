"""Proves of DetailFlow's transformer what neither its goldens nor the contract suite show: what a cached step sees,
stopping at any legal prefix, guidance that fades, learning from corrected sequences, the further terms of its loss,
sizes read from the authors' files, and files that have the same name as their tokenizer's.
"""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from smalti.decoding.guidance import Guidance
from smalti.decoding.loop import Stage, decode
from smalti.decoding.noise import Noise
from smalti.decoding.sampling import Sampling
from smalti.generators.base import Condition
from smalti.generators.detailflow.config import PUBLISHED, DetailFlowConfig, fading, from_authors
from smalti.generators.detailflow.model import DetailFlowGenerator
from smalti.generators.detailflow.objective import DetailFlowObjective, DetailFlowObjectiveConfig
from smalti.hub import load, registry
from smalti.hub.registry import Entry, HubFile
from smalti.hub.saving import save_official
from smalti.nn.mixture import MixtureConfig
from smalti.pipeline import ImageGenerator
from smalti.tokenizers.base import NoFeedback
from smalti.tokenizers.detailflow.correction import encode, self_correct
from smalti.tokens import Choice, Tokens
from tests.tiny.detailflow import tiny_detailflow, tiny_detailflow_generator

CLASSES = Condition.of_classes([0, 3])
IDS = torch.randint(64, (2, 16), generator=torch.Generator().manual_seed(0))


def stepwise(model: DetailFlowGenerator, ids: Tensor, upto: int, start: int = 0) -> Tensor:
    """Logits [B, n, V] of the steps `start` to `upto` - 1, fed with the given tokens through the cache."""
    logits, schedule = [], model.schedule()
    with torch.no_grad():
        state = model.begin(CLASSES, feedback=NoFeedback(), known=ids, start=start)
        for i in range(start, upto):
            logits.append(model.predict(state).logits_RBnV[0])
            model.accept(state, Choice(ids=ids[:, schedule[i].positions]))
    return torch.cat(logits, dim=1)


# ---- the cache -------------------------------------------------------------------------------------------------------

SHAPES = [{}, {"head": 8}, {"head": 12}, {"group": 2}, {"group": 2, "head": 6}, {"group": 8}, {"group": 1, "head": 5}]


@pytest.mark.parametrize("changes", SHAPES, ids=str)
def test_the_cache_sees_what_the_mask_shows(changes: dict) -> None:
    """Logits of every step equal those of the whole pass under the mask, also after a jump to any step."""
    model = tiny_detailflow_generator(**changes)
    schedule = model.schedule()
    with torch.no_grad():
        whole = model(Tokens(layout=model.layout, ids=IDS), CLASSES).logits_RBnV[0]
    for start in range(len(schedule)):
        first = schedule.ends[start - 1] if start else 0
        assert torch.allclose(stepwise(model, IDS, len(schedule), start), whole[:, first:], atol=1e-5)


def test_who_sees_whom() -> None:
    """A token of a group hangs on all tokens before the group and on no other; the head's tokens on those before."""
    model = tiny_detailflow_generator()
    with torch.no_grad():
        before = model(Tokens(layout=model.layout, ids=IDS), CLASSES).logits_RBnV[0]
        for position in range(12):
            ids = IDS.clone()
            ids[:, position] = (ids[:, position] + 1) % 64
            after = model(Tokens(layout=model.layout, ids=ids), CLASSES).logits_RBnV[0]
            changed = (after - before).abs().amax((0, 2)) > 1e-6
            seen_from = position + 1 if position < 4 else (position // 4 + 1) * 4
            assert changed.nonzero()[:, 0].tolist() == list(range(seen_from, 16)), position


def test_the_weights_are_read_once_per_step_behind_the_head() -> None:
    """16 tokens, head of 4, groups of 4: seven passes, of 1, 1, 1, 1, 4, 4, 4 rows."""
    model, rows = tiny_detailflow_generator(), []
    model.blocks[0].register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape[1]))
    stepwise(model, IDS, len(model.schedule()))
    assert rows == [1, 1, 1, 1, 4, 4, 4]


# ---- generation ------------------------------------------------------------------------------------------------------


def image_generator(**changes: object) -> ImageGenerator:
    """Tiny tokenizer and generator as a user holds them."""
    return ImageGenerator(
        generator=tiny_detailflow_generator(**changes), tokenizer=tiny_detailflow(**changes), name="tiny"
    )


@pytest.mark.parametrize("budget", [1, 3, 4, 8, 12, 16])
def test_generation_stops_at_any_legal_prefix(budget: int) -> None:
    """The first tokens are those of the whole generation; the image has the side that many tokens stand for."""
    maker = image_generator()
    whole = maker.generate(classes=[1, 2], seed=5, guidance=1.5)
    cut = maker.generate(classes=[1, 2], seed=5, guidance=1.5, budget=budget)
    assert cut.tokens.ids is not None and whole.tokens.ids is not None
    assert torch.equal(cut.tokens.ids, whole.tokens.ids[:, :budget])
    assert cut.images.shape[-1] == maker.tokenizer.size_of(budget)
    with pytest.raises(ValueError, match="nearest legal: 4 and 8"):
        maker.generate(classes=[1], budget=6)


def test_fading_guidance_counts_groups_from_the_first_token() -> None:
    """s for the head; then s (G - i + 1) / (G + 1), below 1 at the end: all null rows stay."""
    config = DetailFlowConfig(width=32, heads=2, tokens=16, group=4, head=8)
    guidance, steps = fading(config, 3.0), 8 + 2
    assert [guidance.at(i, steps) for i in range(steps)] == [3.0] * 8 + [pytest.approx(3 * k / 5) for k in (3, 2)]
    one_by_one = fading(replace(config, group=1, head=1), 2.0)
    assert [one_by_one.at(i, 16) for i in range(16)] == [2.0] + [pytest.approx(2 * (17 - i) / 17) for i in range(1, 16)]
    with pytest.raises(ValueError, match="weights for 10 steps, the schedule has 16"):
        image_generator(group=1).generate(classes=[1], guidance=guidance)


def test_dropping_the_null_rows_changes_nothing() -> None:
    """After the last guided step the conditional rows go on alone, from the middle of the head or of the groups."""
    model, noise = tiny_detailflow_generator(), Noise.of(0, 2)
    for last in (1, 4, 5):
        curve = tuple(1.0 if i <= last else 0.0 for i in range(7))
        stage = Stage(model=model, guidance=Guidance(scale=3.0, curve=curve), sampling=Sampling(top_p=0.9))
        results = []
        for drop in (True, False):
            model.unguide = (lambda _: False) if not drop else DetailFlowGenerator.unguide.__get__(model)  # type: ignore[method-assign]
            results.append(list(decode([stage], CLASSES, feedback=NoFeedback(), noise=noise))[-1].values)
        assert torch.equal(*results)


# ---- training --------------------------------------------------------------------------------------------------------


def test_sequences_of_the_tokenizer_s_self_correction_are_learnt() -> None:
    """A share of the batch is fed wrong tokens and predicts the right ones; the others, and evaluation, are clean."""
    tokenizer, model = tiny_detailflow(), tiny_detailflow_generator()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        clean = encode(tokenizer, images, 16)
        corrected = self_correct(tokenizer, clean, images, 4, torch.full((2, 16), 5))
    codes = torch.stack([clean.ids, corrected.inputs(), corrected.targets()], dim=-1)
    assert not torch.equal(codes[..., 0], codes[..., 1])

    def loss(share: float, ids: Tensor, training: bool = True) -> float:
        config = DetailFlowObjectiveConfig(correction=share, condition_dropout=0.0)
        objective = DetailFlowObjective(model, tokenizer, config).train(training)
        model.eval()  # no dropout
        return float(objective((ids, CLASSES), 0, torch.Generator().manual_seed(0)).total.detach())

    def expected(fed: Tensor, target: Tensor) -> float:
        logits = model.logits(fed[:, :12], CLASSES)
        return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten()).detach())

    right = expected(clean.ids, clean.ids)
    assert loss(0.0, codes) == loss(0.5, clean.ids) == loss(1.0, codes, training=False) == right
    assert loss(1.0, codes) == expected(corrected.inputs(), corrected.targets()) != right
    model.train()
    objective = DetailFlowObjective(model, None, DetailFlowObjectiveConfig(correction=0.3))
    fed, _ = objective.pairs(codes[:1].expand(4000, -1, -1), torch.Generator().manual_seed(0))
    share = (fed != clean.ids[:1]).any(1).float().mean()
    assert abs(float(share) - 0.3) < 0.03


def test_the_masked_term_alone_sees_the_group_and_later_ones() -> None:
    """Token 9, of the third group, is seen by the fourth alone; once some are hidden by every token, also before it."""
    model, mask = tiny_detailflow_generator(), torch.ones(32)
    other = torch.where(torch.arange(16) == 9, (IDS + 1) % 64, IDS)
    masked = (torch.arange(16) == 10).expand(2, -1)

    def seen_by(**hidden: Tensor) -> list[int]:
        with torch.no_grad():
            states = [model.hidden(ids, CLASSES, **hidden) for ids in (IDS, other)]
        return ((states[0] - states[1]).abs().amax((0, 2)) > 1e-6).nonzero()[:, 0].tolist()

    assert seen_by() == [12, 13, 14, 15]
    assert seen_by(masked=masked, mask=mask) == list(range(16))


def test_further_terms_learn_from_right_tokens() -> None:
    """Images fed with wrong ones: the own loss learns to correct, the further ones are those of the right tokens."""
    rng = torch.Generator().manual_seed(3)
    right, fed, target = torch.randint(64, (3, 2, 16), generator=rng).unbind()
    model, mixture = tiny_detailflow_generator(), MixtureConfig(masked=1.0, next_all=1.0)
    config = DetailFlowObjectiveConfig(condition_dropout=0.0, correction=1.0, mixture=mixture)
    objective = DetailFlowObjective(model, None, config).train()
    model.eval()  # no dropout
    assert objective.helpers is not None
    for step in range(6):
        with torch.no_grad():
            corrected, clean, wrong = (
                objective((ids, CLASSES), step, torch.Generator().manual_seed(step)).parts
                for ids in (torch.stack([right, fed, target], dim=-1), right, fed)
            )
            draws = torch.Generator().manual_seed(step)
            torch.rand(2, 2, generator=draws)  # whose condition is dropped, who is fed mistakes
            masked = objective.helpers.masked(model, right, CLASSES, step, draws)
        assert torch.equal(corrected["masked"], masked)
        assert torch.equal(corrected["next_all"], clean["next_all"]) and corrected["next_all"] != wrong["next_all"]
        assert corrected["cross_entropy"] != clean["cross_entropy"]


def test_what_the_objective_refuses() -> None:
    """Another length, two sequences instead of three, a teacher."""
    objective = DetailFlowObjective(tiny_detailflow_generator())
    for shape in ((2, 15), (2, 16, 2)):
        with pytest.raises(ValueError, match=r"ids \[batch, 16\] or \[batch, 16, 3\], got"):
            objective((torch.zeros(shape, dtype=torch.int64), CLASSES), 0, torch.Generator())
    with pytest.raises(ValueError, match="leave out the teacher"):
        DetailFlowObjective(tiny_detailflow_generator(), teacher=tiny_detailflow_generator())


# ---- configs and files -----------------------------------------------------------------------------------------------


def test_sizes_that_do_not_fit_are_refused() -> None:
    """Both numbers stand in the message."""
    for changes in ({"head": 6}, {"head": 16}, {"tokens": 18}, {"head": 0}):
        with pytest.raises(ValueError, match="whole groups"):
            tiny_detailflow_generator(**changes)
    with pytest.raises(ValueError, match="multiple of 4 channels, got 36 and 6"):
        DetailFlowConfig(width=36, heads=6)


def test_the_authors_config_is_read_as_data() -> None:
    """Their constructor's arguments for the published model; what would be another model is refused."""
    theirs = {
        "dim": 1024, "n_layer": 24, "n_head": 16, "n_kv_head": None, "multiple_of": 256, "ffn_dim_multiplier": None,
        "rope_base": 10000, "norm_eps": 1e-5, "initializer_range": 0.02, "token_dropout_p": 0.1, "attn_dropout_p": 0.0,
        "resid_dropout_p": 0.1, "ffn_dropout_p": 0.1, "drop_path_rate": 0.0, "num_classes": 1000, "caption_dim": 2048,
        "class_dropout_prob": 0.1, "model_type": "c2i", "vocab_size": 8192, "cls_token_num": 1, "block_size": 256,
        "max_batch_size": 32, "max_seq_len": 2048, "learnable_tok_embeddings": True, "group_size": 8,
        "causal_num": None,
    }  # fmt: skip
    assert from_authors(theirs) == PUBLISHED["32-gpt-l"]
    with pytest.raises(ValueError, match="asks for model_type 't2i'"):
        from_authors({**theirs, "model_type": "t2i"})
    with pytest.raises(ValueError, match="does not have: layers"):
        from_authors({**theirs, "layers": 3})


@pytest.mark.parametrize("group", [4, 1])
def test_official_files_named_as_their_tokenizer_s(group: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are called 128.pt: the tokenizer is not looked for in the generator's own file. Tensors come back equal."""
    maker = image_generator(group=group)
    parts = {"tokenizer": maker.tokenizer, "generator": maker.generator}
    for role, model in parts.items():
        monkeypatch.setitem(registry._ENTRIES, f"tiny/{role}", Entry(
            name=f"tiny/{role}", role=role, family="detailflow", config=model.config,  # type: ignore[arg-type]
            tokenizer="tiny/tokenizer" if role == "generator" else None,
            source=HubFile(repo=f"someone/{role}", file="checkpoints/128.pt"),
        ))  # fmt: skip
        (tmp_path / role).mkdir()
        save_official(model, tmp_path / role / "128.pt")
    file = tmp_path / "generator" / "128.pt"
    with pytest.raises(OSError, match="someone/tokenizer"):  # published, and there is no network
        load(file)
    loaded = load(file, tokenizer=tmp_path / "tokenizer" / "128.pt", packed=False)
    assert isinstance(loaded, ImageGenerator)
    state = maker.generator.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in loaded.generator.state_dict().items())
    assert torch.equal(loaded.generate(classes=[2], seed=3).images, maker.generate(classes=[2], seed=3).images)
