"""What artifacts answer on a few images, side by side."""

from attn_export.exporter.records.prediction import Guess, Prediction, PredictionSummary
from attn_export.exporter.report.findings.table import BAD, PLAIN, Cell, Table, table
from attn_export.exporter.report.findings.words import SPACE, counted

ONE_BY_ONE = 3  # images with a table each; of more only the likeliest class is shown


def prediction_tables(summary: PredictionSummary) -> dict[str, Table]:
    """The likeliest classes, by image; of many images only the first class of each, in one table."""
    if len(summary.images) <= ONE_BY_ONE:
        return {prediction.image: _table_of(prediction, summary.artifacts) for prediction in summary.images}
    rows = [[Cell(prediction.image), *_row(prediction, summary.artifacts, 0)] for prediction in summary.images]
    heads = ["image", *(f"<{name}" for name in summary.artifacts)]
    return {counted(len(summary.images), "image"): table("", heads, rows)}


def _table_of(prediction: Prediction, artifacts: tuple[str, ...]) -> Table:
    count = max(len(guesses) for guesses in prediction.answers.values())
    rows = [[Cell(str(rank + 1)), *_row(prediction, artifacts, rank)] for rank in range(count)]
    return table("", ["", *(f"<{name}" for name in artifacts)], rows)


def _row(prediction: Prediction, artifacts: tuple[str, ...], rank: int) -> list[Cell]:
    """The class of each artifact at a rank; those that differ from the first artifact's best are marked."""
    best = prediction.answers[artifacts[0]][0].label
    cells = []
    for name in artifacts:
        guesses = prediction.answers[name]
        text = _words(guesses[rank]) if rank < len(guesses) else ""
        differs = not rank and guesses[0].label != best
        cells.append(Cell(text, BAD if differs else PLAIN))
    return cells


def _words(guess: Guess) -> str:
    return f"{guess.label} {100 * guess.probability:.1f}{SPACE}%"


def differences(summary: PredictionSummary) -> str:
    """Whether the artifacts answer alike."""
    if len(summary.artifacts) < 2:
        return ""
    different = sum(not prediction.agree for prediction in summary.images)
    count = counted(len(summary.images), "image")
    return f"The artifacts differ in {different} of {count}." if different else f"All artifacts agree in {count}."
