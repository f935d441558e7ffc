"""Proves that the README tells the truth: its Python prints what it says; its commands, options and files exist."""

import doctest
import os
import re
import shlex
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from smalti.cli import VERBS
from smalti.data.sample_images import samples

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/design.md", "CHANGELOG.md")


def blocks(language: str) -> list[str]:
    """Fenced blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    """Every `smalti` command of the README, in blocks and in running text, as arguments after `smalti`."""
    lines = [line for block in blocks("bash") for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]*smalti [^`\n]*)`", TEXT)
    parts = [part.strip() for line in lines for part in line.split("&&")]
    return [shlex.split(part)[1:] for part in parts if part.startswith("smalti ")]


def test_python_blocks_print_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All blocks in order in one session, with the image they name beside them."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(samples("photo")[0].path, tmp_path / "photo.jpg")
    found = blocks("python")
    assert len(found) >= 2
    test = doctest.DocTestParser().get_doctest("\n".join(found), {}, "README.md", "README.md", 0)
    report: list[str] = []
    result = doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert result.attempted > 8
    assert result.failed == 0, "".join(report)


@cache
def helped(verb: str) -> str:
    """The help of a verb."""
    environment = {**os.environ, "COLUMNS": "200"}
    command = [sys.executable, "-m", "smalti", *verb.split(), "--help"]
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_commands_exist(arguments: list[str]) -> None:
    """The verb is one of ours, and every option stands in its help."""
    verb = arguments[0]
    assert verb in VERBS
    name = f"{verb} {arguments[1]}" if verb == "data" else verb
    options = [a for a in arguments if a.startswith("--")]
    assert all(re.search(rf"{option}\b", helped(name)) for option in options), arguments


def test_there_are_commands() -> None:
    """A changed fence would leave nothing to test."""
    verbs = {arguments[0] for arguments in commands()}
    assert verbs >= {"demo", "generate", "reconstruct", "models", "data", "train"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    """Files and pictures that a document links to are there."""
    text = (ROOT / document).read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if not link.startswith("https://")]
    missing = [link for link in links if not ((ROOT / document).parent / link).exists()]
    assert not missing


def test_the_tree_is_the_tree() -> None:
    """Every line of the tree names a file or folder that exists, and no part of the package is missing from it."""
    (tree,) = [block for block in blocks("text") if block.startswith("smalti/")]
    inside = re.findall(r"^  (\S+)", tree, flags=re.MULTILINE)
    assert all((ROOT / "smalti" / name).exists() for name in inside)
    assert all((ROOT / name).exists() for name in re.findall(r"^(\S+)", tree, flags=re.MULTILINE))
    parts = {p.name for p in (ROOT / "smalti").iterdir() if p.is_dir() and not p.name.startswith(("_", "."))}
    assert {name.rstrip("/") for name in inside if name.endswith("/")} == parts
    for name in re.findall(r"`(smalti/[\w/.]+)`", TEXT):
        assert (ROOT / name).exists(), name


def test_ci_runs_the_command_of_the_readme() -> None:
    """The test command is the one a reader is told."""
    command = 'pip install ".[test]" && pytest'
    assert f"{command}\n" in blocks("bash")
    assert f"step '{command}'" in (ROOT / ".ci" / "run").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
