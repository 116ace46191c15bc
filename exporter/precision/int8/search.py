"""The fewest layers in float32 with which a quantization is good enough."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from attn_export.exporter.errors import UsageError
from attn_export.exporter.precision.int8.choose import Trial, Work
from attn_export.exporter.precision.int8.settings import QuantizeSettings
from attn_export.exporter.records.quantization import Sensitivity

Judge = Callable[[Trial], bool]


def search(
    best: Trial, order: Sequence[Sensitivity], settings: QuantizeSettings, work: Work, good_enough: Judge
) -> Trial | None:
    """Exclude layers, those with the largest error of their own first, until the quantization is good enough.

    The number is doubled until that holds, and then halved between the last two. Every trial is a whole one: with
    fewer layers, others' biases and roundings are found anew.

    The layers come in order, the most sensitive first.

    Returns:
        None if no trial with a quantized layer is good enough.
    """
    if good_enough(best):
        return best
    found, low, high, step = None, 0, len(order), 1  # `low` isn't enough; `high` is, or nothing is left
    while found is None and low + step < high:
        trial = _without(best, order[: low + step], settings, work)
        if trial is not None and good_enough(trial):
            found, high = trial, low + step
        else:
            low, step = low + step, step * 2
    while high - low > 1:
        middle = (low + high) // 2
        trial = _without(best, order[:middle], settings, work)
        if trial is not None and good_enough(trial):
            found, high = trial, middle
        else:
            low = middle
    return found


def _without(best: Trial, excluded: Sequence[Sensitivity], settings: QuantizeSettings, work: Work) -> Trial | None:
    """A trial with these layers in float32; None where no layer is left."""
    names = tuple(name for one in excluded for name in one.nodes)
    choices = replace(settings.choices, exclude=(*settings.choices.exclude, *names))
    title = f"Trying with {len(excluded)} of the layers in float32"
    try:
        return work.trial(title, best.model, choices, best.recipe)
    except UsageError:
        return None
