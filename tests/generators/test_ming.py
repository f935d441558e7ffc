"""Proves what is Ming's own: branches that share a prompt, the authors' fixed guidance, images in the prompt, the work
that is spared in the head, texts as chats, and the published visual heads. (The contract tests do the rest.)
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from smalti.decoding.guidance import Guidance
from smalti.decoding.loop import Stage, decode
from smalti.decoding.noise import Noise
from smalti.generators.base import Condition
from smalti.generators.ming import head as heads
from smalti.generators.ming.config import MingConfig, from_authors
from smalti.generators.ming.model import MingGenerator
from smalti.generators.ming.objective import MingObjective, MingObjectiveConfig
from smalti.generators.ming.prompt import Prompt
from smalti.generators.ming.weights import config_in
from smalti.hub import model_info
from smalti.hub.assembly import official_shapes
from smalti.pipeline import ImageGenerator
from smalti.text.chat import Chat, ChatText
from smalti.tokens import Choice
from tests.tiny.chat import save_tiny_chat
from tests.tiny.ming import IMAGE, START, prompts, tiny_ming
from tests.tiny.mingtok import tiny_mingtok

KEYS = Path(__file__).parents[1] / "goldens" / "keys" / "Ming-UniVision-16B-A3B_visual_heads.json"


def drawn(model: MingGenerator, prompt: Condition, guidance: Guidance) -> Tensor:
    """All latents of a generation."""
    feedback, noise = tiny_mingtok().feedback(len(prompt)), Noise.of(3, len(prompt))
    *_, last = decode([Stage(model=model, guidance=guidance)], prompt, feedback=feedback, noise=noise)
    return last.values


class Rows:
    """Counts the rows of every call of some modules."""

    def __init__(self, *modules: nn.Module) -> None:
        self.seen: list[int] = []
        for module in modules:
            module.register_forward_pre_hook(lambda _, inputs: self.seen.append(len(inputs[0])))


def test_the_authors_ignore_the_guidance_that_is_asked_for() -> None:
    """Any scale, and none, give what 3 and 1.1 give; without the quirk they differ."""
    prompt, model = prompts([0, 1], images=True), tiny_ming(image_router=True)
    asked = [Guidance(), Guidance(scale=7.0), Guidance(scale=2.0, image_scale=4.0)]
    meant = drawn(model, prompt, Guidance(scale=3.0, image_scale=1.1))
    fixed = [drawn(model, prompt, g) for g in asked]
    assert all((values - meant).abs().max() > 0.1 for values in fixed)
    model.config = replace(model.config, quirks="authors")
    assert all(torch.equal(drawn(model, prompt, g), meant) for g in asked)


def test_a_third_branch_that_sees_the_same_is_not_run() -> None:
    """Without an image in the prompt image_scale changes nothing and costs nothing."""
    model = tiny_ming()
    two = drawn(model, prompts([0, 1]), Guidance(scale=3.0))
    rows = Rows(model.language.blocks[0])
    assert torch.allclose(drawn(model, prompts([0, 1]), Guidance(scale=3.0, image_scale=1.7)), two, atol=1e-4)
    assert rows.seen == [2, 4, 4, 4, 4]  # the prompt once per image, then two branches


def test_the_prompt_is_run_once_for_all_branches() -> None:
    """Behind the last guided step only the conditional rows are left, which changes nothing."""
    model = tiny_ming(image_router=True)
    rows = Rows(model.language.blocks[0])
    guidance = Guidance(scale=3.0, curve="interval", stop=0.4, image_scale=1.0)
    dropped = drawn(model, prompts([0, 1], images=True), guidance)
    assert rows.seen == [2, 6, 6, 2, 2]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "unguide", lambda state: False)
        assert torch.allclose(drawn(model, prompts([0, 1], images=True), guidance), dropped, atol=1e-5)
    assert rows.seen[5:] == [2, 6, 6, 6, 6]


def test_the_head_runs_no_null_rows_in_steps_without_guidance() -> None:
    """The language model goes on with all branches, since later steps are guided."""
    model = tiny_ming(flow_steps=2)
    rows, language = Rows(model.head.input), Rows(model.language.blocks[0])
    drawn(model, prompts([0]), Guidance(scale=2.0, curve=(0.0, 1.0, 0.0, 1.0)))
    assert rows.seen == [1, 1, 2, 2, 1, 1, 2, 2] and language.seen == [1, 2, 2, 2, 2]


def test_every_weight_of_the_head_is_read_once_a_step_and_the_modulations_once_a_token() -> None:
    """And making them step by step gives the same."""
    model = tiny_ming()
    blocks, modulations = Rows(model.head.blocks[0]), Rows(model.head.blocks[0].modulation)  # type: ignore[arg-type]
    times = Rows(model.head.time)
    once = drawn(model, prompts([0]), Guidance(scale=2.0))
    tokens, steps = 4, model.config.flow_steps
    assert len(blocks.seen) == tokens * steps and len(modulations.seen) == tokens and len(times.seen) == 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(heads, "_ROWS", 4)
        few = drawn(model, prompts([0]), Guidance(scale=2.0))
    assert len(modulations.seen) == tokens + tokens * steps // 2 and torch.allclose(once, few, atol=1e-5)


def test_training_without_the_condition_equals_the_null_branch_of_decoding() -> None:
    """The tokens see what the branch sees; the prompt itself sees all of itself."""
    tokenizer, model = tiny_mingtok(), tiny_ming(image_router=True)
    prompt, feedback = prompts([0, 1, 2], images=True), tokenizer.feedback(3)
    latents, noisy = torch.randn(3, 4, 8), torch.randn(3, 4, 8)
    with torch.no_grad():
        features = tokenizer.features_of(latents[:, :-1])
        branches = ("cond", "null", "text_null")
        at_once = [model.hidden(features, prompt, prompt.seen(branch)) for branch in branches]
        velocities = [model.flow(hidden, branches=1).net(noisy, 2) for hidden in at_once]
        state = model.begin(prompt, feedback=feedback, branches=branches)
        for i in range(4):
            stepped = model.predict(state).net(noisy[:, i : i + 1].repeat(3, 1, 1), 2)
            assert torch.allclose(stepped[:, 0], torch.cat([v[:, i] for v in velocities]), atol=1e-5)
            model.accept(state, Choice(latents=latents[:, i : i + 1]))
    assert (velocities[0] - velocities[1]).abs().max() > 0.1 < (velocities[1] - velocities[2]).abs().max()


def test_gradients_reach_the_image_routers() -> None:
    """All but the last block's, of which nothing is read at the places of images."""
    model = tiny_ming(image_router=True, active_experts=3)
    objective = MingObjective(model, tiny_mingtok(), MingObjectiveConfig(condition_dropout=0.2, text_dropout=0.2))
    rng, latents = torch.Generator().manual_seed(0), torch.randn(4, 4, 8)
    losses = [objective.train()((latents, prompts([0, 1, 2, 3], images=True)), step, rng) for step in range(4)]
    torch.stack([one.total for one in losses]).sum().backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == ["language.blocks.1.experts.image_router.weight"]


def test_a_flow_that_knows_its_data_has_no_loss() -> None:
    """The objective's target is data minus noise at t from noise (0) to data (1)."""

    class Known(nn.Module):
        def forward(self, x: Tensor, times: Tensor, condition: Tensor) -> Tensor:
            return (condition - x) / (1 - times[..., None])  # x = (1 - t) noise + t data, so data - noise

    from smalti.generators.ming.objective import flow_matching

    data, rng = torch.randn(3, 4, 8), torch.Generator().manual_seed(0)
    assert flow_matching(Known(), data, data, rng) < 1e-6  # type: ignore[arg-type]
    assert flow_matching(Known(), data, data + 1, rng) > 0.5  # type: ignore[arg-type]


def test_half_precision_runs_and_stays_near() -> None:
    """bfloat16 weights, float32 latents."""
    model, prompt = tiny_ming(), prompts([0, 1])
    whole = drawn(model, prompt, Guidance(scale=1.5))
    half = drawn(model.to(torch.bfloat16), prompt, Guidance(scale=1.5))
    first = (half - whole)[:, 0].abs().max() / whole[:, 0].abs().max()
    assert half.dtype == torch.float32 and torch.isfinite(half).all() and first < 0.1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"text": None, "text_mask": None}, "asked by text"),
        ({"text": torch.full((1, 3), 21)}, "id 21 of the prompt is out of range: allowed are 0..20"),
        ({"text": torch.ones(1, 3, dtype=torch.int64)}, f"must end with the id that opens an image, {START}"),
        ({"text": torch.ones(1, 3, 5)}, "this model reads ids"),
        ({"classes": torch.tensor([2])}, "class 2 is out of range"),
        ({"text_mask": torch.tensor([[True, True, False]])}, "must end with"),
    ],
)
def test_prompts_that_cannot_be_served_are_refused(change: dict[str, Any], said: str) -> None:
    """Before any forward pass."""
    text = torch.tensor([[1, 2, START]])
    good = {"classes": torch.tensor([-1]), "text": text, "text_mask": torch.ones_like(text).bool()}
    model, condition = tiny_ming(), Condition(**{**good, **change})
    rows = Rows(model.language.embedding)
    with pytest.raises(ValueError, match=said):
        drawn(model, condition, Guidance())
    assert not rows.seen
    drawn(model, Condition(**good), Guidance())


def test_images_of_another_width_are_refused() -> None:
    """As are masks of another length."""
    prompt = prompts([0], images=True)
    with pytest.raises(ValueError, match="features of width 128, got 5"):
        drawn(tiny_ming(image_router=True), replace(prompt, features=torch.ones(1, 7, 5)), Guidance())
    with pytest.raises(ValueError, match=r"null_mask must be \[batch, ids\] as the prompt, \[1, 7\], got \[1, 3\]"):
        replace(prompt, null_mask=torch.ones(1, 3, dtype=torch.bool))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kv_heads": 3}, "multiple of kv_heads"),
        ({"active_experts": 99}, r"must be 1..64 \(experts\), got 99"),
        ({"flow_steps": 0}, "at least 1"),
        ({"quirks": "none"}, "allowed: authors, fixed"),
        ({"start_id": -1}, "start_id must be an id"),
        ({"head_width": 5}, "must be even"),
    ],
)
def test_impossible_sizes_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        MingConfig(**change)


# texts


def test_a_text_becomes_a_chat_whose_template_is_all_that_the_null_branch_sees(tmp_path: Path) -> None:
    """Also where the pipeline gives only the ids of the text and of the empty text."""
    chat = ChatText(Chat(instruction="a "), source=save_tiny_chat(tmp_path))
    made = chat.prompts(["red apple", "blue dog a dog", ""])
    assert made.ids.tolist() == [
        [0, 0, 0, 2, 1, 4, 5, 6, 0, 3, 1, START],  # padded on the left with id 0
        [0, 2, 1, 4, 7, 8, 4, 8, 0, 3, 1, START],
        [0, 0, 0, 0, 0, 0, 2, 1, 0, 3, 1, START],
    ]
    assert made.mask.sum(1).tolist() == [10, 12, 7] and made.template.sum(1).tolist() == [7, 7, 7]
    ids, mask = chat.encode(["red apple", "blue dog a dog", ""])
    plain = Condition(classes=torch.tensor([-1, -1]), text=ids[:2], text_mask=mask[:2])
    assert torch.equal(
        Prompt.of(replace(plain, empty_text=ids[2:], empty_mask=mask[2:])).seen("null"), made.template[:2]
    )
    assert Prompt.of(plain).seen("null").sum(1).tolist() == [1, 1]  # the opening of the image alone
    assert len(chat.fingerprint) == 64


def test_an_image_in_the_chat_is_what_the_third_branch_sees(tmp_path: Path) -> None:
    """Its features stand at the places of its tokens."""
    chat = ChatText(source=save_tiny_chat(tmp_path)).prompts(["red", "a blue dog"], image_tokens=2)
    features = torch.randn(2, 2, 128)
    prompt = Prompt.of_chat(chat, features)
    assert prompt.text is not None and prompt.features is not None and prompt.text_null_mask is not None
    assert torch.equal(prompt.features[prompt.text == IMAGE], features.flatten(0, 1))
    assert (prompt.seen("text_null").sum(1) - prompt.seen("null").sum(1)).tolist() == [4, 4]  # opened and closed
    assert torch.isfinite(drawn(tiny_ming(image_router=True), prompt, Guidance(scale=3.0, image_scale=1.1))).all()
    rows = prompt[1:]
    assert len(rows) == 1 and torch.equal(rows.seen("text_null"), prompt.seen("text_null")[1:])
    with pytest.raises(ValueError, match=r"must be \[2, 2, width\]"):
        Prompt.of_chat(chat, features[:, :1])


def test_a_tokenizer_that_is_not_there_or_of_another_chat_is_named(tmp_path: Path) -> None:
    """With what to do."""
    with pytest.raises(ValueError, match="has no tokenizer.json"):
        ChatText(source=tmp_path).encode(["a"])
    chat = ChatText(Chat(opening="<picture>"), source=save_tiny_chat(tmp_path))
    with pytest.raises(ValueError, match="no token '<picture>'"):
        chat.encode(["a"])
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="is no tokenizer.json"):
        ChatText(source=tmp_path).encode(["a"])


def test_texts_to_images_through_the_pipeline(tmp_path: Path) -> None:
    """Two texts in one batch, guided, and one of them alone."""
    gen = ImageGenerator(
        generator=tiny_ming(), tokenizer=tiny_mingtok(), text_encoder=ChatText(source=save_tiny_chat(tmp_path))
    )
    both = gen.generate(text=["red apple", "a blue dog"], seed=1, guidance=2.0)
    alone = gen.generate(text=["a blue dog"], seed=2, guidance=2.0)
    assert both.images.shape == (2, 3, 16, 16)
    assert torch.allclose(both.tokens.values[1:], alone.tokens.values, atol=1e-4)
    with pytest.raises(ValueError, match="asked by text"):
        gen.generate(n=1)


# published files


def test_the_visual_heads_of_the_published_file_are_ours() -> None:
    """Every listed key and shape, and no other one under these names."""
    listed = {key: tuple(shape) for key, (_, shape) in json.loads(KEYS.read_text()).items()}
    entry = model_info("ming/univision-16b-a3b")
    official = official_shapes(entry.role, entry.family, entry.config)
    prefixes = ("model.vis_head.", "model.diffloss.", "linear_proj.")
    assert {k: v for k, v in official.items() if k.startswith(prefixes)} == listed


def test_a_config_beside_the_weights_wins(tmp_path: Path) -> None:
    """What it states replaces the sizes; what is not supported is refused."""
    config, file = MingConfig(), tmp_path / "model.safetensors.index.json"
    assert config_in(file, config) == config
    language = {"num_hidden_layers": 3, "rope_theta": 1000.0, "num_image_tokens_for_gen": 64, "use_bias": False}
    flow = {"diffloss_d": 5, "num_sampling_steps": "8", "gen_method": "flow_matching_swiglu-2"}
    (tmp_path / "config.json").write_text(json.dumps({"llm_config": language, "vishead_diffloss_config": flow}))
    changed = {"depth": 3, "rotation_base": 1000.0, "grid": 8, "flow_depth": 5, "flow_steps": 8, "flow_ratio": 2}
    assert config_in(file, config) == replace(config, **changed)
    for wrong in ({"use_bias": True}, {"hidden_act": "gelu"}, {"rope_scaling": {"type": "yarn"}}):
        with pytest.raises(ValueError, match=rf"llm_config.{next(iter(wrong))} is .*supported"):
            from_authors(language | wrong, flow)
    with pytest.raises(ValueError, match="another head"):
        from_authors(language, {"gen_method": "diffusion"})
