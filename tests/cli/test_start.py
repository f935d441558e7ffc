"""Proves that the command answers at once: help and `import smalti` load no torch and cost little time."""

import resource
import subprocess
import sys

import pytest

import smalti as package
from smalti.cli import VERBS


def cpu_seconds(code: str) -> float:
    """Processor time of a fresh interpreter running `code`: on a busy machine the clock on the wall says little."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def test_help_is_fast() -> None:
    """`smalti --help` stays under half a second of processor time."""
    code = "import sys\nfrom smalti.cli import main\nmain(['--help'])"
    assert min(cpu_seconds(code) for _ in range(3)) < 0.5


@pytest.mark.parametrize("code", ["import smalti", "from smalti.cli import main; main(['--help'])"])
def test_no_torch_before_it_is_needed(code: str) -> None:
    """Neither the package nor the help imports torch."""
    check = f"try:\n {code}\nexcept SystemExit: pass\nimport sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True, capture_output=True)


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_every_verb_loads_no_torch(verb: str) -> None:
    """The help of a verb needs its arguments, not the library behind it."""
    code = f"from smalti.cli import main\ntry:\n main(['{verb}', '--help'])\nexcept SystemExit as e: assert e.code == 0"
    check = f"{code}\nimport sys; assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"usage: smalti {verb}" in done.stdout


def test_overview_names_every_verb(smalti) -> None:
    """Without arguments the command lists its verbs."""
    result = smalti()
    assert result.status == 0
    assert all(f"• {verb}" in result.out for verb in VERBS)


def test_unknown_verb_is_refused(smalti) -> None:
    """Exit status 2 and the names that exist."""
    result = smalti("reconstuct")
    assert result.status == 2
    assert "reconstruct" in result.err


def test_version() -> None:
    """`python -m smalti --version` prints the package's version."""
    done = subprocess.run([sys.executable, "-m", "smalti", "--version"], check=True, capture_output=True, text=True)
    assert done.stdout == f"smalti {package.__version__}\n"
