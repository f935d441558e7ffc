"""Proves that layouts cut, count and compare as they say, and that token files are whole, checked and safe."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from smalti.tokens import Origin, Segment, TokenLayout, Tokens

VAR = TokenLayout.scales((1, 2, 3), vocab=16)
ORIGIN = Origin(tokenizer="mini/var", weights="a" * 64, image_size=(64, 64), preprocessing="bicubic")


def tokens(batch: int = 2, origin: Origin | None = ORIGIN) -> Tokens:
    """Random ids of the three scales."""
    ids = torch.randint(16, (batch, VAR.length), generator=torch.Generator().manual_seed(0))
    return Tokens(layout=VAR, ids=ids, origin=origin)


def test_layout_counts() -> None:
    """Starts, lengths, bits and coordinates derive from the segments."""
    assert VAR.length == 14 and VAR.prefixes == (1, 5, 14) and VAR.starts == (0, 1, 5, 14)
    assert VAR.bits(5) == 5 * 4 and VAR.bits(14) == 56
    assert VAR.segment_of().tolist() == [0] + [1] * 4 + [2] * 9
    assert VAR.coordinates(1).tolist() == [[0, 0], [0, 1], [1, 0], [1, 1]]
    mixed = TokenLayout(segments=(Segment(shape=(2,), vocab=3), Segment(shape=(2, 2), vocab=8)), prefixes=(6,))
    assert math.isclose(mixed.bits(6), 2 * math.log2(3) + 4 * 3)


def test_layout_survives_json() -> None:
    """Tuples come back from JSON as tuples."""
    assert TokenLayout.from_dict(json.loads(json.dumps(VAR.to_dict()))) == VAR


@pytest.mark.parametrize("prefixes", [(), (0, 14), (5, 1, 14), (1, 5)])
def test_bad_prefixes_are_refused(prefixes: tuple[int, ...]) -> None:
    """They must ascend to the whole."""
    with pytest.raises(ValueError, match="prefixes"):
        TokenLayout(segments=VAR.segments, prefixes=prefixes)


def test_prefix_cuts_and_names_the_nearest_legal_cuts() -> None:
    """One cut for all, one per image, and a helpful error."""
    whole = tokens()
    assert whole.prefix(5).ids.shape == (2, 5)
    ragged = whole.prefix([1, 14])
    assert ragged.lengths.tolist() == [1, 14] and (ragged.ids[0, 1:] == -1).all()
    assert ragged.bits().tolist() == [4, 56]
    assert torch.equal(ragged[1].ids, whole[1].ids) and ragged[0].ids.shape == (1, 1)
    with pytest.raises(ValueError, match=r"nearest legal: 5 and 14"):
        whole.prefix(6)
    with pytest.raises(ValueError, match="has 5"):
        whole.prefix(5).prefix(14)


def test_files_round_trip(tmp_path: Path) -> None:
    """Ids, lengths, layout and origin come back."""
    tokens().prefix([5, 14]).save(tmp_path / "t.safetensors")
    back = Tokens.load(tmp_path / "t.safetensors")
    assert torch.equal(back.ids, tokens().prefix([5, 14]).ids)
    assert back.layout == VAR and back.origin == ORIGIN and back.lengths.tolist() == [5, 14]
    assert [p.name for p in tmp_path.iterdir()] == ["t.safetensors"]


def test_latents_round_trip(tmp_path: Path) -> None:
    """Continuous tokens as well."""
    layout = TokenLayout(segments=(Segment(shape=(2, 2), vocab=None),), prefixes=(4,))
    latents = Tokens(layout=layout, latents=torch.randn(3, 4, 8))
    latents.save(tmp_path / "t.safetensors")
    assert torch.equal(Tokens.load(tmp_path / "t.safetensors").latents, latents.latents)
    with pytest.raises(ValueError, match="no bits"):
        layout.bits(4)


def test_damaged_and_foreign_files_are_refused(tmp_path: Path) -> None:
    """Absent, cut off, of another kind, out of range: each error names the file."""
    path = tmp_path / "t.safetensors"
    with pytest.raises(FileNotFoundError, match="t.safetensors"):
        Tokens.load(path)
    path.write_bytes(b"not a file of tensors")
    with pytest.raises(ValueError, match="t.safetensors"):
        Tokens.load(path)
    save_file({"ids": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="not a token file"):
        Tokens.load(path)
    bad = tokens()
    bad.ids[1, 7] = 16
    bad.save(path)
    with pytest.raises(ValueError, match=r"id 16 at position 7 of image 1[\s\S]*0..15"):
        Tokens.load(path)
    tokens().save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match="t.safetensors"):
        Tokens.load(path)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: the error says so, the old tokens stay, nothing half-written remains."""
    import os

    path = tmp_path / "t.safetensors"
    tokens().save(path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="nothing was left behind"):
        tokens(batch=4).save(path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_a_killed_process_leaves_the_old_file(tmp_path: Path) -> None:
    """SIGKILL in the middle of writing: the old file is whole."""
    import subprocess
    import sys

    path = tmp_path / "t.json"
    path.write_text("old")
    code = (
        "import os, signal, sys\nfrom smalti.files import whole\n"
        "with whole(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)])
    assert result.returncode == -9 and path.read_text() == "old"


def test_batches_join_only_within_one_tokenizer() -> None:
    """Different origins never mix."""
    assert len(Tokens.cat([tokens(), tokens().prefix(5)])) == 4
    other = Origin(tokenizer="mini/other", weights="b" * 64, image_size=(64, 64))
    with pytest.raises(ValueError, match="same layout and tokenizer"):
        Tokens.cat([tokens(), tokens(origin=other)])


def test_constructor_checks() -> None:
    """Wrong dtype, shape, or both kinds at once."""
    ids = torch.zeros(1, 14, dtype=torch.int64)
    for wrong in ({"ids": ids.int()}, {"ids": torch.zeros(1, 15, dtype=torch.int64)}, {}, {"ids": ids, "latents": ids}):
        with pytest.raises(ValueError, match="got"):
            Tokens(layout=VAR, **wrong)


def test_a_segment_comes_from_other_tokens() -> None:
    """By number or name; the rest stays, and so do the tokens it was taken from."""
    one, other = tokens(), Tokens(layout=VAR, ids=torch.full((2, 14), 7), origin=ORIGIN)
    for name in (1, "1", "2x2"):
        mixed = one.with_segment(name, other)
        assert (mixed.segment(1) == 7).all() and mixed.origin == ORIGIN
        assert all(torch.equal(mixed.segment(i), one.segment(i)) for i in (0, 2))
    assert torch.equal(one.ids, tokens().ids)
    assert torch.equal(one.prefix(5).with_segment(0, other).ids[:, 1:], one.ids[:, 1:5])
    latents = TokenLayout(segments=tuple(Segment(shape=(2,), vocab=None) for _ in "ab"), prefixes=(4,))
    zeros, ones = (Tokens(layout=latents, latents=torch.full((1, 4, 3), v)) for v in (0.0, 1.0))
    assert zeros.with_segment(1, ones).latents[0, :, 0].tolist() == [0, 0, 1, 1]


def test_a_segment_of_something_else_is_refused() -> None:
    """Another number of images, another tokenizer, a segment that is not there."""
    with pytest.raises(ValueError, match=r"got 2 images .* and 1 with"):
        tokens().with_segment(0, tokens(1))
    foreign = tokens(origin=Origin(tokenizer="other", weights="b" * 64, image_size=(64, 64)))
    with pytest.raises(ValueError, match="of mini/var, the segment's of other"):
        tokens().with_segment(0, foreign)
    for segment in (3, "4x4", -1):
        with pytest.raises(ValueError, match=r"no segment .*1x1, 2x2, 3x3"):
            tokens().with_segment(segment, tokens())
    with pytest.raises(ValueError, match="has only 5"):
        tokens().prefix(5).with_segment(2, tokens())
