"""Proves the shape of the house: who imports whom, what a family folder holds, and that our names shadow nobody's."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import smalti

PACKAGE = Path(smalti.__file__).parent
BASE = {"nn", "tokens", "images", "files"}
DATA_OF_DECODING = {f"decoding.{n}" for n in ("schedules", "guidance", "sampling", "noise", "prediction", "settings")}
ALLOWED: dict[str, set[str]] = {
    "nn": BASE,
    "tokens": BASE,
    "images": BASE,
    "files": BASE,
    "text": BASE | {"text"},
    "tokenizers": BASE | {"text", "tokenizers"},
    "generators": BASE | {"text", "tokenizers.base", "generators"} | DATA_OF_DECODING,
    "decoding": BASE | {"tokenizers.base", "generators.base", "decoding"},
}
ALLOWED["pipeline"] = BASE | {"text", "tokenizers.base", "generators.base", "decoding"}
ALLOWED["hub"] = ALLOWED["pipeline"] | {"tokenizers", "generators", "hub", "pipeline", ""}
CORE = ALLOWED["hub"] | {"data"}
ALLOWED |= {"data": CORE, "training": CORE | {"training"}, "eval": CORE | {"eval"}}
ALLOWED["cli"] = ALLOWED["web"] = ALLOWED["__main__"] = CORE | {"training", "eval", "cli", "web"}
FAMILY_FILES = {"config.py", "model.py", "weights.py", "objective.py"}


def imports(path: Path) -> set[str]:
    """Modules of this package that a file imports, without the leading "smalti."; "" for the package itself."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        assert not (isinstance(node, ast.ImportFrom) and node.level), f"{path} uses a relative import"
    return {n.removeprefix("smalti").removeprefix(".") for n in names if n.split(".")[0] == "smalti"}


def sources() -> list[Path]:
    """Every module of the package."""
    return [p for p in sorted(PACKAGE.rglob("*.py")) if p != PACKAGE / "__init__.py"]


@pytest.mark.parametrize("path", sources(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path: Path) -> None:
    """A part imports only what stands before it."""
    part = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    wrong = {n for n in imports(path) if not any(n == a or (a and n.startswith(f"{a}.")) for a in ALLOWED[part])}
    assert not wrong, f"{part} may not import {sorted(wrong)}"


@pytest.mark.parametrize("kind", ["tokenizers", "generators"])
def test_families_hold_the_same_files_and_never_import_each_other(kind: str) -> None:
    """config, model, weights, objective in every family; what two families share lives in nn."""
    families = [p for p in (PACKAGE / kind).iterdir() if p.is_dir() and p.name != "__pycache__"]
    assert families
    for family in families:
        assert {p.name for p in family.glob("*.py")} >= FAMILY_FILES, family
        for path in family.glob("*.py"):
            others = {n for n in imports(path) if n.startswith(("tokenizers.", "generators."))}
            own = (f"{kind}.{family.name}.", "tokenizers.base", "generators.base")
            assert all(f"{n}.".startswith(own) for n in others), f"{path} imports another family: {others}"


def test_decoding_data_modules_import_only_tokens() -> None:
    """Schedules, guidance, sampling, noise and predictions stand below the generators, which build them."""
    for name in DATA_OF_DECODING:
        path = PACKAGE / f"{name.replace('.', '/')}.py"
        assert imports(path) <= {"tokens"} | DATA_OF_DECODING, path


def test_our_folder_names_shadow_no_library() -> None:
    """`tokenizers` in the repository root is Hugging Face's, not ours."""
    code = "import tokenizers, smalti.tokenizers.base; print('smalti' in tokenizers.__file__)"
    result = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True)
    assert result.stdout.strip() == "False", result.stderr
    assert not any((PACKAGE.parent / name).exists() for name in ("tokenizers", "generators", "decoding", "eval"))


def test_importing_smalti_imports_no_torch() -> None:
    """The public names are lazy."""
    code = "import sys, smalti; print('torch' in sys.modules, len(dir(smalti)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PACKAGE.parent)
    assert result.stdout.startswith("False"), result.stdout + result.stderr


def test_every_public_name_exists() -> None:
    """Nothing is announced that is not there."""
    for name in smalti.__all__:
        assert getattr(smalti, name) is not None
