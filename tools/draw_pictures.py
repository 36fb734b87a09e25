"""Draws the SVG pictures of docs/index.md and docs/inside.md.

    python -m tools.draw_pictures

Each picture has a background of its own, dark where the reader's system is, so that it can
be read on any page.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from html import escape
from pathlib import Path

PICTURES = Path(__file__).parent.parent / "docs" / "pictures"

STYLE = """
  .page { fill: #fbfbfd; stroke: #d5d7e0; }
  .box { fill: #e6e9f5; stroke: #5563a8; }
  .own { fill: #b9dfc3; stroke: #2f7d46; }
  .met { fill: #f4d9b0; stroke: #a2660b; }
  .none { fill: none; stroke: #b3261e; stroke-dasharray: 5 4; }
  .line { fill: none; stroke: #3a3f55; stroke-width: 1.5; }
  .gone { fill: none; stroke: #b3261e; stroke-width: 1.5; }
  .tip { fill: #3a3f55; }
  .tile { fill: none; stroke: #3a3f55; stroke-width: 2.5; }
  .empty { fill: #eff0f4; stroke: #d5d7e0; }
  text { font: 14px system-ui, sans-serif; fill: #1d2030; }
  .small { font-size: 12px; }
  .red { fill: #b3261e; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #1b1e2b; stroke: #3b4055; }
    .box { fill: #2c3354; stroke: #93a1ee; }
    .own { fill: #1f4f2e; stroke: #79c98f; }
    .met { fill: #5a3f12; stroke: #e3ad55; }
    .none { stroke: #ff9a92; }
    .line { stroke: #c6cbe0; }
    .gone { stroke: #ff9a92; }
    .tip { fill: #c6cbe0; }
    .tile { stroke: #c6cbe0; }
    .empty { fill: #232738; stroke: #3b4055; }
    text { fill: #e8eaf5; }
    .red { fill: #ff9a92; }
  }
"""


def svg(title: str, width: int, height: int, parts: Sequence[str]) -> str:
    """A whole picture; its title is what a screen reader says."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
            'markerHeight="7" orient="auto"><path class="tip" d="M0 0L8 4L0 8z"/></marker>'
            "</defs>",
            f'<rect class="page" x="1" y="1" width="{width - 2}" height="{height - 2}" '
            'rx="10"/>',
            *parts,
            "</svg>\n",
        ]
    )


def box(
    x: float, y: float, width: float, height: float, kind: str = "box", *lines: str
) -> str:
    """A box with lines of text in its middle."""
    drawn = (
        f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
        'rx="4"/>'
    )
    first = y + height / 2 + 5 - 9 * (len(lines) - 1)
    texts = [
        text(x + width / 2, first + 18 * number, line, "middle")
        for number, line in enumerate(lines)
    ]
    return "\n".join([drawn, *texts])


def text(x: float, y: float, words: str, anchor: str = "start", kind: str = "") -> str:
    """One line of text."""
    of_kind = f' class="{kind}"' if kind else ""
    return (
        f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}"{of_kind}>{escape(words)}</text>'
    )


def arrow(*points: tuple[float, float]) -> str:
    """A line with a tip, through the points."""
    path = "L".join(f"{x:g} {y:g}" for x, y in points)
    return f'<path class="line" marker-end="url(#tip)" d="M{path}"/>'


def crossed(x: float, y: float, width: float, height: float) -> str:
    """What does not exist."""
    return (
        f'<rect class="none" x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}"/>'
        f'<path class="gone" d="M{x:g} {y:g}l{width:g} {height:g}m0 {-height:g}'
        f'l{-width:g} {height:g}"/>'
    )


def idea() -> str:
    """Two towers, one query and the documents it meets, and what is never stored."""
    rows, top, step = 8, 62, 26
    query, own, met = 2, 2, (0, 4, 7)
    parts = [
        box(16, 62, 126, 44, "box", "query tower"),
        box(16, 222, 126, 44, "box", "document tower"),
        text(230, 40, "query", "middle"),
        text(420, 40, "doc", "middle"),
        arrow((142, 84), (188, 84)),
        arrow((142, 244), (164, 244), (164, 300), (420, 300), (420, 276)),
    ]
    for row in range(rows):
        y = top + row * step
        parts.append(box(190, y, 80, 20, "own" if row == query else "empty"))
        kind = "own" if row == own else "met" if row in met else "empty"
        parts.append(box(380, y, 80, 20, kind))
    start = top + query * step + 10
    for row in (own, *met):
        parts.append(arrow((270, start), (378, top + row * step + 10)))
    parts += [
        text(470, top + own * step + 15, "its own document"),
        text(470, top + met[1] * step + 15, "K others of the batch"),
        text(325, 330, "loss: minus the log of the own document's share,", "middle"),
        text(325, 350, "in a softmax over the K + 1 cosines", "middle"),
        crossed(660, 62, 90, 118),
        text(705, 204, "a table of the", "middle", "red"),
        text(705, 222, "documents that are met,", "middle", "red"),
        text(705, 240, "B x (K + 1) x D:", "middle", "red"),
        text(705, 258, "never stored", "middle", "red"),
    ]
    return svg(
        "One query meets its own document and K others; their rows are never gathered",
        800,
        370,
        parts,
    )


def passes() -> str:
    """What each of the two passes reads and writes."""
    parts = [
        text(150, 34, "forward pass, by query", "middle"),
        box(30, 50, 105, 40, "own", "query, B x D"),
        box(165, 50, 105, 40, "met", "doc, C x D"),
        arrow((82, 90), (120, 126)),
        arrow((217, 90), (180, 126)),
        box(30, 130, 240, 62, "box", "each query: K products,", "softmax, weighted sum"),
        text(650, 34, "gradient pass, by document", "middle"),
        box(530, 50, 105, 40, "own", "query, B x D"),
        box(665, 50, 105, 40, "met", "doc, C x D"),
        arrow((582, 90), (620, 126)),
        arrow((717, 90), (680, 126)),
        box(
            530,
            130,
            240,
            62,
            "box",
            "each document: the queries",
            "that drew it, met again",
        ),
        text(400, 34, "kept between them", "middle"),
        box(320, 112, 160, 40, "box", "four numbers a row"),
        box(320, 170, 160, 40, "box", "direction, B x D"),
        arrow((270, 150), (316, 134)),
        arrow((270, 172), (316, 190)),
        arrow((480, 134), (526, 150)),
        arrow((480, 190), (526, 172)),
        arrow((150, 192), (150, 236)),
        box(90, 240, 120, 36, "own", "loss"),
        arrow((580, 192), (580, 236)),
        arrow((718, 192), (718, 236)),
        box(514, 240, 132, 36, "own", "query gradient"),
        box(660, 240, 116, 36, "met", "doc gradient"),
        crossed(365, 236, 70, 44),
        text(400, 300, "B x K: nothing", "middle", "red"),
    ]
    return svg("What the two passes read, keep and write", 800, 320, parts)


def ring() -> str:
    """The ring as a band of a matrix, and one tile of it."""
    places, negatives, tile = 14, 4, 4
    size, left, top = 20, 150, 70
    parts = [
        text(left + places * size / 2, 34, "documents, in the order of the ring", "middle"),
        text(left + places * size / 2, 54, "place 0, 1, 2, ...", "middle", "small"),
        text(left - 12, top + 62, "queries,", "end"),
        text(left - 12, top + 82, "in the same", "end"),
        text(left - 12, top + 102, "order", "end"),
    ]
    for row in range(places):
        for column in range(places):
            distance = (column - row) % places
            kind = "own" if distance == 0 else "met" if distance <= negatives else "empty"
            x, y = left + column * size, top + row * size
            parts.append(
                f'<rect class="{kind}" x="{x}" y="{y}" width="{size}" height="{size}"/>'
            )
    first = 4
    parts += [
        f'<rect class="tile" x="{left + first * size}" y="{top + first * size}" '
        f'width="{(tile + negatives) * size}" height="{tile * size}"/>',
        *(
            part
            for number, (kind, words) in enumerate(
                (
                    ("own", "its own document"),
                    ("met", "the K that follow"),
                    ("empty", "not met"),
                )
            )
            for part in (
                box(470, 82 + 30 * number, 18, 18, kind),
                text(498, 96 + 30 * number, words),
            )
        ),
        '<rect class="tile" x="470" y="178" width="18" height="18"/>',
        text(498, 192, "a tile: M queries meet the same"),
        text(498, 211, "M + K documents, which are read"),
        text(498, 230, "once for all of them"),
        text(498, 262, "The end of the ring is its start:"),
        text(498, 281, "its last queries meet the first places"),
    ]
    return svg(
        "With the ring the candidates are a band of the matrix of all pairs",
        800,
        370,
        parts,
    )


DRAWINGS = {"idea": idea, "passes": passes, "ring": ring}

if __name__ == "__main__":
    argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0]).parse_args()
    for name, draw in DRAWINGS.items():
        (PICTURES / f"{name}.svg").write_text(draw())
