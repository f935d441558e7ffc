"""Proves that package archives are read whole, that hostile ones are refused with a reason, and that a missing client
or package gives an error that says what to do."""

import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from tiny_packages import write_tgz

from smalti.data import packages
from smalti.data.networks import convolutions, load_numpy_pickle
from smalti.data.packages import Package, PackageError, check_sha256, fetch, read_members

THING = Package(registry="npm", name="@some/thing", version="1.2.3")


def write_deb(path: Path, files: dict[str, bytes]) -> Path:
    inner = write_tgz(path.with_suffix(".tgz"), files).read_bytes()
    member = b"data.tar.gz/".ljust(16) + b"0".ljust(32) + str(len(inner)).encode().ljust(10) + b"`\n"
    control = b"debian-binary/".ljust(16) + b"0".ljust(32) + b"3".ljust(10) + b"`\n" + b"2.0\n"
    path.write_bytes(b"!<arch>\n" + control + member + inner)
    return path


def read_all(archive: Path) -> dict[str, bytes]:
    return dict(read_members(archive, lambda name: True))


def test_the_three_kinds_of_archive_give_their_files(tmp_path):
    files = {"package/a.txt": b"one", "package/b/c.txt": b"two"}
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    assert read_all(tmp_path / "x.whl") == files
    assert read_all(write_tgz(tmp_path / "x.tgz", files)) == files
    assert read_all(write_deb(tmp_path / "x.deb", files)) == files


def test_only_wanted_members_are_read_and_links_are_skipped(tmp_path):
    archive = write_tgz(tmp_path / "x.tgz", {"package/a.txt": b"one", "package/b.txt": b"two"}, link="package/l.txt")
    assert dict(read_members(archive, lambda name: name.endswith("a.txt"))) == {"package/a.txt": b"one"}
    assert "package/l.txt" not in read_all(archive)


@pytest.mark.parametrize("name", ["../evil", "package/../../evil", "/etc/evil", "package\\..\\evil", "C:/evil"])
def test_unsafe_names_are_refused(tmp_path, name):
    archive = write_tgz(tmp_path / "x.tgz", {name: b"x"})
    with pytest.raises(PackageError, match="unsafe member name"):
        read_all(archive)


def test_large_members_totals_and_counts_are_refused(tmp_path, monkeypatch):
    archive = write_tgz(tmp_path / "x.tgz", {f"package/{i}": b"x" * 100 for i in range(5)})
    assert len(read_all(archive)) == 5
    for limit, value in (("MAX_MEMBER_BYTES", 99), ("MAX_TOTAL_BYTES", 450), ("MAX_MEMBERS", 4)):
        with monkeypatch.context() as patch:
            patch.setattr(packages, limit, value)
            with pytest.raises(PackageError, match=str(value)):
                read_all(archive)


@pytest.mark.parametrize("suffix", [".tgz", ".whl", ".deb"])
def test_a_broken_archive_is_named(tmp_path, suffix):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(b"this is no archive at all")
    with pytest.raises(PackageError, match="broken"):
        read_all(path)


def test_source_folder_cache_and_digest(tmp_path, monkeypatch):
    archive = write_tgz(tmp_path / "some-thing-1.2.3.tgz", {"package/a": b"x"})
    assert fetch(THING, source=tmp_path) == archive == fetch(THING, source=archive)
    with pytest.raises(PackageError, match=r"no file starting with 'some-thing-9'"):
        fetch(Package(registry="npm", name="@some/thing", version="9"), source=tmp_path)
    with pytest.raises(PackageError, match="expected 0000"):
        check_sha256(archive, "0" * 64)
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path / "cache"))
    cached = tmp_path / "cache" / "packages" / archive.name
    cached.parent.mkdir(parents=True)
    cached.write_bytes(archive.read_bytes())
    assert fetch(THING) == cached


def test_a_missing_client_says_how_to_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageError, match=r"npm is needed.*source=FILE_OR_FOLDER"):
        fetch(THING)
    assert list((tmp_path / "packages").iterdir()) == []


def test_a_client_that_fails_is_quoted(tmp_path, monkeypatch):
    monkeypatch.setenv("SMALTI_CACHE", str(tmp_path / "cache"))
    client = tmp_path / "npm"
    client.write_text("#!/bin/sh\necho no such package >&2\nexit 3\n")
    client.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageError, match=r"npm could not fetch npm:@some/thing@1.2.3 \(exit 3\):\nno such package"):
        fetch(THING)


def test_a_source_archive_is_only_fetched_with_its_digest(tmp_path):
    package = Package(registry="pypi", name="thing", version="1", sha256="ab" * 32, sdist=True)
    command = packages._command(package, tmp_path)
    assert "--require-hashes" in command
    assert (tmp_path / "requirements.txt").read_text() == f"thing==1 --hash=sha256:{'ab' * 32}\n"
    with pytest.raises(AssertionError, match="digest"):
        packages._command(Package(registry="pypi", name="thing", version="1", sdist=True), tmp_path)


def test_pickles_hold_arrays_or_are_refused():
    tree = {"params": {"Net": {"Conv_0": {"kernel": np.ones((3, 5, 2, 4), "f4"), "bias": np.zeros(4, "f4")}}}}
    loaded = load_numpy_pickle(pickle.dumps(tree, protocol=3))
    arrays = convolutions(loaded, "Net", (7,))
    assert {key: value.shape for key, value in arrays.items()} == {
        "features.7.weight": (4, 2, 3, 5),
        "features.7.bias": (4,),
    }
    for hostile in (subprocess.Popen, eval, Path("x")):
        with pytest.raises(PackageError, match="only NumPy arrays"):
            load_numpy_pickle(pickle.dumps(hostile))
    with pytest.raises(PackageError, match="not a pickle"):
        load_numpy_pickle(b"junk")


def test_convolutions_place_every_weight():
    kernel = np.arange(3 * 3 * 2 * 4, dtype="f4").reshape(3, 3, 2, 4)
    weight = convolutions({"Net": {"Conv_0": {"kernel": kernel, "bias": np.zeros(4)}}}, "Net", (0,))[
        "features.0.weight"
    ]
    assert weight[3, 1, 2, 0] == kernel[2, 0, 1, 3]


def test_the_data_package_imports_no_torch():
    code = "import sys, smalti.data, smalti.data.prepare; smalti.data.samples(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
