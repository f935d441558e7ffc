"""Draws the order in which generators decide tokens: `python docs/orders.py` writes docs/images/order-FAMILY.svg.

Each drawing is made from the schedule of the model, so it cannot say anything else than the code.
"""

from layouts import INK, MARGIN, OUT, PALE, TOP, WIDTH, shade, text

from smalti.decoding.schedules import Schedule
from smalti.hub import model_info
from smalti.hub.families import build_empty

MODELS = {"nar": ("nar/imagenet-256-B", "nar/ucf101-L")}
"""Family -> the models drawn side by side."""
CELL, FRAME_GAP, WHITE = 10, 10, "#ffffff"


def step_of(schedule: Schedule) -> list[int]:
    """The step that decides each position."""
    steps = [0] * schedule.length
    for i, step in enumerate(schedule):
        for position in [] if step.positions is None else step.positions.tolist():
            steps[position] = i
    return steps


def frame(steps: list[int], columns: int, last: int, x: int, y: int) -> list[str]:
    """A map of tokens, each with the number of its step, in white on the dark early ones."""
    squares: dict[str, str] = {}
    numbers: dict[str, str] = {INK: "", WHITE: ""}
    for i, step in enumerate(steps):
        row, column = divmod(i, columns)
        left, top, share = column * CELL, row * CELL, step / (last + 1)
        square = f"M{left} {top}h{CELL - 1}v{CELL - 1}h{1 - CELL}z"
        squares[shade(share)] = squares.get(shade(share), "") + square
        ink = INK if share > 0.4 else WHITE
        numbers[ink] += f'<text x="{left + CELL / 2 - 0.5}" y="{top + CELL - 3}">{step}</text>'
    parts = [f'<path d="{path}" fill="{color}"/>' for color, path in squares.items()]
    parts += [f'<g fill="{ink}" font-size="6" text-anchor="middle">{words}</g>' for ink, words in numbers.items()]
    return [f'<g transform="translate({x} {y})">', *parts, "</g>"]


def drawing(family: str, names: tuple[str, ...]) -> str:
    """The whole SVG: a row for every model, its frames beside each other."""
    parts, y = [text(MARGIN, 26, f"{family}: the step in which every token is decided", 16)], TOP
    for name in names:
        entry = model_info(name)
        model = build_empty(entry.role, entry.family, entry.config)
        steps, (*frames, rows, columns) = step_of(model.schedule()), model.layout.segments[0].shape
        shape = " x ".join(map(str, (*frames, rows, columns)))
        head = f"{name}: {shape} tokens in {len(model.schedule())} steps"
        parts.append(text(MARGIN, y - 6, head + (", frames beside each other" if frames else ""), 12))
        for f in range(frames[0] if frames else 1):
            part = steps[f * rows * columns : (f + 1) * rows * columns]
            parts += frame(part, columns, max(steps), MARGIN + f * (columns * CELL + FRAME_GAP), y)
        y += rows * CELL + 32
    parts.append(text(MARGIN, y - 12, "tokens of one number are decided at once", 12, PALE))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" width="{WIDTH}" height="{y:.0f}" '
        f'font-family="system-ui, sans-serif">\n<rect width="{WIDTH}" height="{y:.0f}" fill="{WHITE}"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def main() -> None:
    """One drawing a family."""
    OUT.mkdir(exist_ok=True)
    for family, names in MODELS.items():
        (OUT / f"order-{family}.svg").write_text(drawing(family, names))
        print(f"order-{family}.svg: {', '.join(names)}")


if __name__ == "__main__":
    main()
