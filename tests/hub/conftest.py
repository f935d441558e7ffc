"""Tiny real models, a hub cache in the hub's own layout, and a registry that forgets what a test adds."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest

from smalti.decoding.guidance import Guidance
from smalti.decoding.sampling import Sampling
from smalti.decoding.settings import Settings
from smalti.hub import registry
from smalti.hub.registry import Entry, HubFile
from smalti.pipeline import ImageGenerator
from smalti.tokenizers.base import Tokenizer
from tests.tiny.var import tiny_var_generator, tiny_var_tokenizer

SETTINGS = Settings(guidance=Guidance(scale=2.0, curve="linear"), sampling=Sampling(top_k=(9, 9, 8, 7), top_p=0.9))
REPO = "someone/tiny"


@pytest.fixture
def tokenizer() -> Tokenizer:
    """A tokenizer with random weights."""
    return tiny_var_tokenizer()


@pytest.fixture
def generator(tokenizer: Tokenizer) -> ImageGenerator:
    """A generator over it, with everything a folder keeps."""
    return ImageGenerator(
        generator=tiny_var_generator(),
        tokenizer=tokenizer,
        classes=("cat", "dog", "fish", "tree", "house"),
        settings=SETTINGS,
        name="test/gen",
        license="Apache-2.0",
    )


@pytest.fixture
def scratch_registry() -> Iterator[None]:
    """Models registered during the test are forgotten after it."""
    before = {e.name: e for e in registry.entries()}
    yield
    registry._ENTRIES.clear()
    registry._ENTRIES.update(before)


@pytest.fixture
def tiny_entries(scratch_registry: None, tokenizer: Tokenizer, generator: ImageGenerator) -> tuple[Entry, Entry]:
    """Registered entries whose files are "published" in REPO."""
    tok = Entry(
        name="test/tok",
        role="tokenizer",
        family="var",
        config=tokenizer.config,  # type: ignore[attr-defined]
        source=HubFile(repo=REPO, file="vae.pth"),
        image_size=16,
    )
    gen = Entry(
        name="test/gen",
        role="generator",
        family="var",
        config=generator.generator.config,  # type: ignore[attr-defined]
        tokenizer="test/tok",
        source=HubFile(repo=REPO, file="gen.pth"),
        settings=SETTINGS,
        weights_license="MIT",
    )
    return registry.register(tok), registry.register(gen)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """An empty hub cache with the network off; the returned function puts a file of a repository into it.

    Its third argument is the path inside the repository, by default the name of the file.
    """
    cache = tmp_path / "hub"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)

    def add(repo: str, file: Path, name: str = "") -> None:
        folder = cache / f"models--{repo.replace('/', '--')}"
        commit = hashlib.sha1(repo.encode()).hexdigest()
        for sub in ("refs", "blobs", f"snapshots/{commit}"):
            (folder / sub).mkdir(parents=True, exist_ok=True)
        (folder / "refs" / "main").write_text(commit)
        blob = folder / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        blob.write_bytes(file.read_bytes())
        link = folder / "snapshots" / commit / (name or file.name)
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(blob)

    return add
