"""Ming-UniVision at tiny size."""

from collections.abc import Sequence

import torch

from smalti.generators.ming.config import MingConfig
from smalti.generators.ming.model import MingGenerator
from smalti.generators.ming.objective import MingObjective, MingObjectiveConfig
from smalti.generators.ming.prompt import Prompt
from tests.tiny.generators import Generators
from tests.tiny.mingtok import tiny_mingtok

START, IMAGE = 20, 19


def tiny_ming(**changes: object) -> MingGenerator:
    """2 blocks of width 16 with 4 experts, 2 x 2 tokens, a head of 2 blocks and 4 Euler steps."""
    language = {"vocab": 21, "width": 16, "depth": 2, "heads": 4, "kv_heads": 2, "head_width": 4, "start_id": START}
    experts = {"experts": 4, "active_experts": 2, "expert_width": 12, "shared_experts": 1, "image_router": False}
    image = {"grid": 2, "latent_channels": 8, "semantic_width": 128, "image_id": IMAGE}
    flow = {"flow_width": 24, "flow_depth": 2, "flow_steps": 4}
    torch.manual_seed(2)
    model = MingGenerator(MingConfig(**{**language, **experts, **image, **flow, **changes})).eval()  # type: ignore[arg-type]
    for p in model.parameters():
        torch.nn.init.normal_(p, std=0.3)
    return model


def prompts(numbers: Sequence[int], *, images: bool = False) -> Prompt:
    """Prompts of up to 6 ids, padded on the left; the null branch sees the first and the last."""
    rng = torch.Generator().manual_seed(0)
    ids, length = torch.randint(0, IMAGE, (4, 7), generator=rng), torch.tensor([[7], [5], [6], [4]])
    features, mask = torch.randn(4, 7, 128, generator=rng), torch.arange(7) >= 7 - length
    null = mask & (torch.arange(7) == 7 - length)
    ids[:, -1] = START
    rows = torch.tensor(list(numbers))
    prompt = Prompt(classes=torch.full((len(rows),), -1), text=ids[rows], text_mask=mask[rows], null_mask=null[rows])
    if not images:
        return prompt
    image = torch.tensor([False, False, False, False, True, True, False])
    return Prompt(
        classes=prompt.classes,
        text=torch.where(image, IMAGE, ids[rows]),
        text_mask=mask[rows],
        null_mask=null[rows],
        text_null_mask=null[rows] | image,
        features=(features * image[:, None])[rows],
    )


def _generators(**changes: object) -> Generators:
    tokenizer = tiny_mingtok()
    return Generators(
        tokenizer=tokenizer,
        first=tiny_ming(**changes),
        second=tiny_ming(**{"width": 8, "flow_depth": 1, **changes}),
        condition=prompts,
        objective=lambda model: MingObjective(model, tokenizer, MingObjectiveConfig(condition_dropout=0.3)),  # type: ignore[arg-type]
    )


def _with_images() -> Generators:
    tokenizer = tiny_mingtok()
    return Generators(
        tokenizer=tokenizer,
        first=tiny_ming(image_router=True),
        second=tiny_ming(image_router=True, time_shift=2.0, shared_experts=0),
        condition=lambda numbers: prompts(numbers, images=True),
    )


GENERATORS = {"ming": _generators, "ming images": _with_images}
