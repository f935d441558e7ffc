"""Generators at published sizes with random weights, and what they are asked for."""

from dataclasses import asdict, replace
from typing import Any

import torch
from torch import nn

from smalti.generators.base import Condition, Generator
from smalti.hub import model_info
from smalti.hub.families import config_from_dict, family
from smalti.hub.registry import Entry
from smalti.nn.compiled import compile_blocks
from smalti.nn.linear import pack_linears
from smalti.pipeline import ImageGenerator


def random_generator(entry: Entry) -> Generator:
    """The model of an entry with random weights, none of them zero."""
    torch.manual_seed(0)
    model = family(entry.role, entry.family).model_class(entry.config).eval()
    with torch.no_grad():
        for p in model.parameters():
            if p.ndim >= 2 or not p.any():
                nn.init.normal_(p, std=0.02)
    assert isinstance(model, Generator)
    return model


def pipeline(
    name: str, dtype: torch.dtype, device: torch.device, packed: bool, compiled: bool = False
) -> ImageGenerator:
    """Generator and tokenizer of an entry, random weights; "code/d16+d8" hands over after 8 of 10 scales."""
    pair = name == "code/d16+d8"
    entry = model_info("var/d16" if pair else name)
    assert entry.tokenizer is not None
    stated = model_info(entry.tokenizer)
    tokenizer: Any = family("tokenizer", stated.family).model_class(stated.config).eval()
    made = [random_generator(entry)]
    settings = entry.settings
    if pair:
        small = config_from_dict(type(entry.config), {**asdict(entry.config), "depth": 8, "width": 512, "heads": 8})
        made.append(random_generator(replace(entry, config=small)))
        settings = replace(model_info("code/8").settings, then="d8", handover=8)
    for model in made:
        model.to(dtype)
        if packed and device.type == "cpu":
            pack_linears(model)
        model.to(device)
        if compiled:
            compile_blocks(model)
    parts = [ImageGenerator(generator=m, tokenizer=tokenizer, settings=settings, name=name) for m in made]
    return replace(parts[0], then=parts[1] if pair else None).to(device)


def condition_of(generator: Generator, batch: int) -> Condition:
    """Classes, or random text features where the model is asked by text."""
    if generator.classes:
        return Condition.of_classes([i % generator.classes for i in range(batch)])
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(batch + 1, 120, generator.text_features, generator=rng)
    condition = Condition(classes=torch.full((batch,), -1), text=features[:batch])
    if not generator.empty_text:
        return condition
    return replace(condition, empty_text=features[batch:], empty_mask=torch.ones(1, 120, dtype=torch.bool))
