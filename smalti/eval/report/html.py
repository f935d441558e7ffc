"""Small pieces of HTML: everything that comes from outside is escaped here."""

import base64
import io
from collections.abc import Sequence
from html import escape

from torch import Tensor

from smalti.images import to_pil


def data_uri(image: Tensor) -> str:
    """An image [3, H, W] in [0, 1] as a PNG inside the page."""
    buffer = io.BytesIO()
    to_pil(image).save(buffer, format="PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def picture(image: Tensor, alt: str) -> str:
    """An <img> with its own pixels."""
    height, width = image.shape[-2:]
    return f'<img src="{data_uri(image)}" alt="{escape(alt)}" width="{width}" height="{height}">'


def figure(image: Tensor, alt: str, lines: Sequence[str] = (), kind: str = "") -> str:
    """An image with lines of text under it; the last line is the one that matters."""
    shown = "".join(f"<span>{escape(line)}</span>" for line in lines)
    caption = f"<figcaption>{shown}</figcaption>" if lines else ""
    style = f' class="{kind}"' if kind else ""
    return f"<figure{style}>{picture(image, alt)}{caption}</figure>"


def section(identifier: str, title: str, lead: str, *body: str) -> str:
    """A section with its heading and a sentence or two of plain text that say what is seen."""
    return (
        f'<section id="{escape(identifier)}"><h2>{escape(title)}</h2><p class="lead">{escape(lead)}</p>'
        f"{''.join(body)}</section>"
    )


def table(header: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "", texts: int = 1) -> str:
    """A table that scrolls sideways on a narrow screen; the first `texts` columns are left-aligned."""
    style = [' class="t"' if i < texts else "" for i in range(len(header))]
    head = "".join(f'<th scope="col"{s}>{escape(h)}</th>' for h, s in zip(header, style, strict=True))
    body = "".join(
        "<tr>" + "".join(f"<td{s}>{escape(c)}</td>" for c, s in zip(row, style, strict=True)) + "</tr>" for row in rows
    )
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return f'<div class="scroll"><table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def columns(count: int) -> str:
    """Style attribute of a strip: all in one row, or in the fewest rows of at most five on a narrow screen."""
    rows = -(-count // 5)
    return f'style="--columns: {count}; --narrow: {-(-count // rows)}"'


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """A definition list."""
    return '<dl class="facts">' + "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in pairs) + "</dl>"
