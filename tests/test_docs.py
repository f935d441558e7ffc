"""Proves that the documentation keeps up: a page for every tokenizer family, with its drawing, every published model in
it, Python that parses and names that exist, links that lead somewhere.
"""

import ast
import re
from pathlib import Path

import pytest

from smalti.hub.families import FAMILIES
from smalti.hub.registry import Folder, entries, list_models

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TOKENIZERS = [f.name for f in FAMILIES if f.role == "tokenizer"]


@pytest.mark.parametrize("family", TOKENIZERS)
def test_every_tokenizer_family_has_a_page_with_all_its_models(family: str) -> None:
    """And the drawing of its token layout."""
    page = (DOCS / "families" / f"{family}.md").read_text()
    assert f"layout-{family}.svg" in page
    published = [
        e.name for e in entries() if e.role == "tokenizer" and e.family == family and not isinstance(e.source, Folder)
    ]
    missing = [name for name in published if name not in page]
    assert not missing, f"{family}.md does not name {missing}"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_links_lead_somewhere_and_python_parses(page: Path) -> None:
    """Relative links and pictures exist; code blocks are valid; names that are loaded are in the registry."""
    text = page.read_text()
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}, which is not there"
    known = set(list_models())
    for block in re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL):
        code = "\n".join(
            re.sub(r"^(>>> |\.\.\. )", "", line) for line in block.splitlines() if not line.startswith("[")
        )
        ast.parse(code)
        for name in re.findall(r"""load\(["']([\w.-]+/[\w.-]+)["']""", block):
            assert name in known, f"{page.name} loads {name}, which is no model"
