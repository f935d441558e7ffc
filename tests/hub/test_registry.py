"""Proves that models are found by wildcard, that every entry carries its provenance and holds together, and that a
wrong name gets the right one spelled out.
"""

from dataclasses import replace
from functools import cache

import pytest

import smalti
from smalti.hub import Entry, count_parameters, list_models, model_info, register
from smalti.hub.families import build_empty
from smalti.hub.registry import Folder, HubFile, entries


@cache
def model_of(entry: Entry):
    """The model without its weights."""
    return build_empty(entry.role, entry.family, entry.config)


def test_wildcards_and_roles():
    assert list_models("var/d*") == ["var/d16", "var/d20", "var/d24", "var/d30", "var/d36"]
    assert set(list_models("*refiner-[67]", role="generator")) == {"code/refiner-6", "code/refiner-7"}
    assert set(list_models("var/*", role="tokenizer")) == {"var/vqvae-256", "var/vqvae-512"}
    assert list_models("no such*") == []
    assert set(list_models()) == {e.name for e in entries()}
    assert smalti.list_models is list_models
    with pytest.raises(ValueError, match="role 'tokeniser' is unknown"):
        list_models(role="tokeniser")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [e.name for e in entries()])
def test_every_entry_holds_together(name):
    entry = model_info(name)
    assert entry.weights_license
    if isinstance(entry.source, Folder):
        assert entry.source.path.is_dir()
    else:
        assert entry.paper is not None
        assert entry.verified
        assert entry.code_license
    if entry.role == "generator":
        generator, tokenizer = model_of(entry), model_info(str(entry.tokenizer))
        assert generator.layout == model_of(tokenizer).layout(entry.image_size)
        assert (entry.num_classes or 0) == generator.classes
        steps, sampling = len(generator.schedule()), entry.settings.sampling
        assert all(len(v) == steps for v in vars(sampling).values() if isinstance(v, tuple))
    if entry.settings.then:
        refiner = model_info(entry.settings.then)
        assert refiner.tokenizer == entry.tokenizer
        assert 0 < (entry.settings.handover or 0) < len(model_of(entry).schedule())
    for number in entry.published:
        assert number.protocol


def test_published_numbers_and_settings():
    var, pair = model_info("var/d30"), model_info("code/8")
    assert [(p.metric, p.value) for p in var.published] == [("FID", 1.97)]
    assert [(p.metric, p.value) for p in pair.published] == [("FID", 1.98), ("IS", 302)]
    steps = [var.settings.guidance.at(i, 10) for i in range(10)]
    assert steps[0] == 1  # the authors' logits (1 + t) c - t u with t = 1.5 i / 9
    assert steps[9] == 2.5
    assert (var.settings.sampling.top_k, var.settings.sampling.top_p) == (900, 0.96)
    assert pair.settings.sampling.temperature == (1.1,) * 7 + (1.0,) * 3
    assert pair.settings.sampling.temperature_order == "last"
    assert (pair.settings.then, pair.settings.handover) == ("code/refiner-8", 8)
    assert pair.source == HubFile(repo="Zigeng/VAR_CoDe", file="drafter_8.pth")
    assert model_info("code/training-free-7").source == HubFile(repo="FoundationVision/var", file="var_d30.pth")


@pytest.mark.parametrize(
    ("name", "millions"),
    [("var/vqvae-256", 108.95), ("var/d16", 310.3), ("var/d20", 600.9), ("var/d24", 1033.4), ("var/d30", 2010.0)],
)
def test_parameters_are_those_of_the_paper(name, millions):
    assert count_parameters(model_info(name)) / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("vra/d16", "did you mean var/d16"),
        ("d16", "did you mean var/d16"),
        ("var", "did you mean .*var/vqvae-256"),
        ("zzzz", r"list_models\(\) or `smalti models`"),
        ("./var/d16", r"no file or folder ./var/d16.*smalti.load\('/path/to/d16'\).*smalti.load\('var/d16'\)"),
        ("var_d20.pth", r"smalti.load\('/path/to/var_d20.pth'\).*smalti.load\('var/d20'\)"),
        ("/models/drafter_9.pth", r"no file or folder /models/drafter_9.pth"),
    ],
)
def test_unknown_names_say_what_may_have_been_meant(name, said):
    with pytest.raises(ValueError, match=said):
        smalti.load(name)
    if "/" not in name[:2] and not name.endswith(".pth"):
        with pytest.raises(ValueError, match="there is no model"):
            model_info(name)


def test_registering(scratch_registry):
    entry = replace(model_info("var/d16"), name="mine/d16")
    assert register(entry) is model_info("mine/d16")
    with pytest.raises(ValueError, match="already a model mine/d16"):
        register(entry)
    with pytest.raises(ValueError, match="form family/variant"):
        register(replace(entry, name="d16"))
