"""All nodes of a graph as small cells in a row, before and after the cleanup, with the attention blocks marked."""

from typing import TYPE_CHECKING

from attn_export.exporter.records.graphs import GraphOutlines, OutlineRecord
from attn_export.exporter.report.charts.axes import LONGEST_NAME, SMALL, WIDE, legend_places
from attn_export.exporter.report.charts.chart import Chart
from attn_export.exporter.report.charts.palette import IDLE, INK, SOFT, colour
from attn_export.exporter.report.charts.svg import canvas, drawing_board, inline
from attn_export.exporter.report.findings.graphs import graph_sentences, kinds_of, nodes_by_kind
from attn_export.exporter.report.findings.table import table
from attn_export.exporter.report.findings.words import counted, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CELL, GAP, ROW = 22.0, 6.0, 28.0
HEAD = 20.0
WIDEST, NARROWEST = 9.0, 3.0
MOST_ROWS = 6
# Kinds are told by where their cells reach as well as by their colour: upper and lower end, of 0..1.
SPANS = ((0.0, 1.0), (0.0, 0.68), (0.32, 1.0), (0.16, 0.84))
NEUTRAL = (0.36, 0.64)


def strip(name: str, graph: GraphOutlines) -> Chart:
    """A cell for each node in topological order; cells are equally wide, so a shorter strip is a smaller graph.

    Args:
        name: of the chart, the same for no other.
        graph: outlines before (or None) and after.
    """
    states = [("before", graph.before), ("after", graph.after)] if graph.before else [("", graph.after)]
    longest = max(len(outline.operators) for _, outline in states)
    cell = max(NARROWEST, min(WIDEST, WIDE * MOST_ROWS / (longest + MOST_ROWS)))
    in_row = int(WIDE // cell)
    rows = [-(-len(outline.operators) // in_row) for _, outline in states]
    kinds = kinds_of(graph)
    head = HEAD * _legend_rows(kinds)
    height = head + sum(HEAD + count * ROW + 4 for count in rows)
    hints: dict[str, str] = {}
    with canvas(WIDE, height) as figure:
        board = drawing_board(figure)
        _legend(board, kinds)
        top = head
        for (word, outline), count in zip(states, rows, strict=True):
            nodes = counted(len(outline.operators), "node")
            board.text(0, top + 13, f"{word}: {nodes}" if word else nodes, color=INK)
            _cells(board, outline, kinds, cell, in_row, top + HEAD, hints, word)
            top += HEAD + count * ROW + 4
        title = "Every node of the graph"
        finding = " ".join(graph_sentences(graph))
        svg = inline(figure, name, title, finding, hints)
    data = table(
        "Nodes by what they belong to",
        ["nodes of", *(word or "nodes" for word, _ in states)],
        [
            [kind or "everything else", *(str(nodes_by_kind(outline)[kind]) for _, outline in states)]
            for kind in [*kinds, ""]
        ],
    )
    note = "One cell for each node, in topological order, from left to right and row by row."
    return Chart(svg, title, note, finding, data, WIDE)


def span_of(kinds: list[str], kind: str) -> tuple[float, float]:
    """How far the cells of this kind reach."""
    return SPANS[kinds.index(kind) % len(SPANS)]


def _cells(
    board: "Axes",
    outline: OutlineRecord,
    kinds: list[str],
    cell: float,
    in_row: int,
    top: float,
    hints: dict[str, str],
    word: str,
) -> None:
    """One path for each block, and one for all other nodes."""
    nodes: dict[int | None, list[int]] = {}
    for node, block in enumerate(outline.blocks):
        nodes.setdefault(block, []).append(node)
    for block, members in nodes.items():
        entry = None if block is None else outline.inventory[block]
        span, tone = (NEUTRAL, IDLE) if entry is None else (span_of(kinds, entry.kind), colour(kinds.index(entry.kind)))
        gid = f"{word}-{'rest' if block is None else block}"
        if entry is not None:
            hints[gid] = f"{entry.module_path}: {entry.kind}, {counted(len(members), 'node')} {word}"
        _draw(board, members, span, tone, gid, cell, in_row, top)


def _draw(
    board: "Axes",
    members: list[int],
    span: tuple[float, float],
    tone: str,
    gid: str,
    cell: float,
    in_row: int,
    top: float,
) -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    points, codes = [], []
    for node in members:
        across, down = (node % in_row + 0.5) * cell, top + node // in_row * ROW
        points += [(across, down + span[0] * CELL), (across, down + span[1] * CELL)]
        codes += [Path.MOVETO, Path.LINETO]
    board.add_patch(
        PathPatch(
            Path(points, codes),
            fill=False,
            edgecolor=tone,
            linewidth=max(1.0, cell - max(1.0, cell / 6)),
            capstyle="butt",
            gid=gid,
            clip_on=False,
        )
    )


def _legend(board: "Axes", kinds: list[str]) -> None:
    entries = [*kinds, ""]
    words = [shortened(kind, LONGEST_NAME) or "everything else" for kind in entries]
    for kind, text, (place, row) in zip(entries, words, legend_places(words, WIDE), strict=True):
        span, tone = (span_of(kinds, kind), colour(kinds.index(kind))) if kind else (NEUTRAL, IDLE)
        ends = [row * HEAD + share * 14 for share in span]
        board.plot([place + 4, place + 4], ends, color=tone, linewidth=7, solid_capstyle="butt")
        board.text(place + 13, row * HEAD + 11, text, fontsize=SMALL, color=SOFT)


def _legend_rows(kinds: list[str]) -> int:
    words = [shortened(kind, LONGEST_NAME) or "everything else" for kind in [*kinds, ""]]
    return 1 + legend_places(words, WIDE)[-1][1]
