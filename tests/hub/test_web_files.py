"""Proves that a companion on a web server is downloaded once, whole, and that a failure says where to put a copy."""

from pathlib import Path

import pytest
import torch

from smalti.hub.fetch import FetchError, web_file
from smalti.hub.registry import WebFile


@pytest.fixture
def torch_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch.hub."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path / "torch hub"))
    return tmp_path / "torch hub" / "checkpoints"


def test_a_web_file_is_downloaded_once(torch_hub: Path, tmp_path: Path) -> None:
    published = tmp_path / "backbone.pth"
    published.write_bytes(b"weights")
    source = WebFile(url=published.as_uri())
    path = web_file(source, name="family/variant")
    assert path == torch_hub / "backbone.pth"
    assert path.read_bytes() == b"weights"
    published.unlink()
    assert web_file(source, name="family/variant") == path
    assert [p.name for p in torch_hub.iterdir()] == ["backbone.pth"]


def test_a_failure_names_the_model_the_address_and_the_place(torch_hub: Path, tmp_path: Path) -> None:
    url = (tmp_path / "absent.pth").as_uri()
    with pytest.raises(FetchError, match=r"family/variant needs file:.*absent\.pth.*Put a copy of the file at"):
        web_file(WebFile(url=url), name="family/variant")
    assert not list(torch_hub.iterdir())
