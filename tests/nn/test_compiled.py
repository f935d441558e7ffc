"""Proves that compiled blocks change nothing but the time: the same ids and, to 1e-5, log-probabilities in every family
whose blocks are compiled, few compilations in a whole generation and none in the next, the same state dict, training
and copies as before, and a clear error where nothing can be compiled.
"""

import copy
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

import smalti
from smalti.decoding.guidance import Guidance
from smalti.decoding.loop import Partial, Stage, decode
from smalti.decoding.noise import Noise
from smalti.generators.base import Generator
from smalti.nn.cache import KVCache
from smalti.nn.compiled import blocks_of, check_compiler, compile_blocks
from smalti.nn.gpt import Block
from smalti.nn.linear import PackedLinear, can_pack, pack_linears
from smalti.pipeline import ImageGenerator
from smalti.tokens import Tokens
from tests.tiny import gathered
from tests.tiny.generators import Generators

FAMILIES = gathered("GENERATORS")
FAST = ("llamagen",)
"""Compiled in the default run; the others take seconds each and carry the marker `slow`."""


@pytest.fixture(scope="module")
def compiler() -> None:
    """Skips where this machine compiles nothing."""
    try:
        check_compiler(torch.device("cpu"))
    except ValueError as error:
        pytest.skip(str(error))


def generate(family: Generators, batch: int = 2, guided_steps: int | None = None) -> list[Partial]:
    """All steps; the null rows are dropped behind `guided_steps`."""
    steps = len(family.first.schedule())
    count = steps if guided_steps is None else guided_steps
    stage = Stage(model=family.first, guidance=Guidance.first_steps(2.0, count, steps))
    condition, feedback = family.condition([0, 1, 2][:batch]), family.tokenizer.feedback(batch)
    return list(decode([stage], condition, feedback=feedback, noise=Noise.of(0, batch)))


def compilations() -> int:
    """Graphs compiled so far in this process."""
    return counters["stats"]["unique_graphs"]


def assert_same(compiled: list[Partial], eager: list[Partial]) -> None:
    """Equal ids, close log-probabilities and latents."""
    for a, b in zip(compiled, eager, strict=True):
        assert torch.allclose(a.values.float(), b.values.float(), atol=1e-5)  # ids are equal
        if a.choice is not None and b.choice is not None and b.choice.logprobs is not None:
            assert a.choice.logprobs is not None
            assert torch.allclose(a.choice.logprobs, b.choice.logprobs, atol=1e-5)


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES]
)
def test_compiled_blocks_change_nothing_but_the_time(compiler: None, name: str) -> None:
    """One family, packed where that works: with guidance, then without behind the second step, then other batches."""
    family = FAMILIES[name]()
    pack_linears(family.first)
    eager = [generate(family), generate(family, guided_steps=2), generate(family, batch=3)]
    broken, before = sum(counters["graph_break"].values()), compilations()
    compile_blocks(family.first)
    assert can_pack() == any(isinstance(module, PackedLinear) for module in family.first.modules())
    probes = compilations() - before
    assert_same(generate(family), eager[0])
    assert 0 < compilations() - before - probes <= 3
    assert_same(generate(family, guided_steps=2), eager[1])  # fewer rows of the same cache
    assert_same(generate(family, batch=3), eager[2])
    assert compilations() - before - probes <= 5
    once = compilations()
    assert_same(generate(family), eager[0])
    assert_same(generate(family, guided_steps=2), eager[1])
    assert compilations() == once
    assert sum(counters["graph_break"].values()) == broken


@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_the_cache_is_written_in_place(compiler: None, mode: Callable[[], AbstractContextManager[None]]) -> None:
    """Tokens go to their places in a long cache, and nothing of its size is allocated to do that."""
    torch.manual_seed(0)
    model, inputs = nn.Module(), torch.randn(3, 2, 1, 32)
    model.blocks = nn.ModuleList([Block(32, 2, 64) for _ in range(2)])
    shape = {"layers": 2, "rows": 2, "heads": 2, "length": 4000, "head_dim": 16}
    caches = [KVCache(**shape, dtype=torch.float32, device=torch.device("cpu")) for _ in range(2)]

    def run(cache: KVCache, x: Tensor) -> Tensor:
        for layer, block in enumerate(model.eval().blocks):  # type: ignore[arg-type]
            x = block(x, cache=cache, layer=layer)
        cache.advance(1)
        return x

    with mode():
        for cache in caches:
            cache.values.copy_(torch.randn(cache.values.shape, generator=torch.Generator().manual_seed(1)))
            cache.used = 3900
        eager = [run(caches[0], x) for x in inputs]
        compile_blocks(model)
        compiled = [run(caches[1], x) for x in inputs[:2]]
        with torch.profiler.profile(profile_memory=True) as profile:
            compiled.append(run(caches[1], inputs[2]))
    assert torch.allclose(torch.stack(compiled), torch.stack(eager), atol=1e-5)
    assert torch.allclose(caches[1].values, caches[0].values, atol=1e-5)
    assert profile.profiler is not None and profile.profiler.kineto_results is not None
    events = profile.profiler.kineto_results.events()
    largest = max(event.nbytes() for event in events if event.name() == "[memory]")  # type: ignore[attr-defined]
    layer = caches[1].values[0].nbytes
    assert 0 < largest < layer / 100


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_blocks(name: str) -> None:
    """All of them are alike in what they are called with, and none is inside another."""
    blocks = list(blocks_of(FAMILIES[name]().first))
    inner = {id(module) for block in blocks for module in block.modules() if module is not block}
    assert blocks and not inner & {id(block) for block in blocks}


def _gradients(family: Generators, model: Generator) -> list[Tensor]:
    """Of the likelihood of some tokens, with respect to every parameter."""
    ids = torch.zeros(2, model.layout.length, dtype=torch.int64)
    tokens, feedback = Tokens(layout=model.layout, ids=ids), family.tokenizer.feedback(2)
    loss = model(tokens, family.condition([0, 1]), feedback=feedback).logits_RBnV.log_softmax(-1)[..., 0].mean()
    return list(torch.autograd.grad(loss, list(model.parameters())))


def test_everything_else_stays_as_it_was(compiler: None) -> None:
    """Names and weights, gradients, training mode, another dtype, copies."""
    family = FAMILIES["var"]()
    plain, model = copy.deepcopy(family.first), family.first
    compile_blocks(model)
    before = compilations()
    state = model.state_dict()
    assert list(state) == list(plain.state_dict())
    assert all(torch.equal(state[key], value) for key, value in plain.state_dict().items())
    pairs = zip(_gradients(family, model.train()), _gradients(family, plain.train()), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    copied = copy.deepcopy(model)
    model.eval().to(torch.float64)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    generate(Generators(tokenizer=family.tokenizer, first=copied.eval(), second=copied))
    assert compilations() == before, "neither training nor a copy compiles anything"


def test_load_compiles(compiler: None) -> None:
    """A packaged model gives the same images; a tokenizer is refused."""
    with pytest.raises(ValueError, match="leave out compile=True"):
        smalti.load("mini/var", compile=True)
    plain, model = smalti.load("mini/var-gen"), smalti.load("mini/var-gen", compile=True)
    assert isinstance(plain, ImageGenerator) and isinstance(model, ImageGenerator)
    before = compilations()
    one, other = (m.generate(classes=[0], seed=3) for m in (model, plain))
    assert one.tokens.ids is not None and other.tokens.ids is not None
    assert torch.equal(one.tokens.ids, other.tokens.ids) and torch.allclose(one.images, other.images, atol=1e-5)
    assert compilations() > before


def test_without_a_compiler_the_error_says_what_to_do(tmp_path: Path) -> None:
    """In a process of its own whose compiler is not there."""
    environment = {**os.environ, "CXX": str(tmp_path / "missing"), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "smalti", "generate", "mini/var-gen", "--compile", "--out", str(tmp_path / "out")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "leave out compile=True" in done.stderr and "install" in done.stderr
    assert not (tmp_path / "out").exists()
