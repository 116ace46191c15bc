"""The fewest layers in float32 for a required quality; what was tried stands beside the result until there is one."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from attn_export.exporter.errors import DisagreementError, UsageError
from attn_export.exporter.precision.int8.choose import Trial, Work
from attn_export.exporter.precision.int8.search import fewest
from attn_export.exporter.precision.int8.sensitivity import LAYER, sensitivity
from attn_export.exporter.precision.int8.settings import QuantizeSettings
from attn_export.exporter.records.document import DocumentError, decode, encode
from attn_export.exporter.records.quantization import SearchState, Sensitivity
from attn_export.exporter.system.files import publish, write_text

NOTHING_LEFT = "no layer is left to quantize"
Judge = Callable[[Trial], DisagreementError | None]


@dataclass(frozen=True)
class Notes:
    """Where a search, known by its digest, keeps what it found out; notes of another one are dropped."""

    path: Path
    scratch: Path
    digest: str

    def read(self) -> SearchState:
        """The notes of an earlier run of this search, or empty ones."""
        try:
            state = decode(self.path.read_bytes(), SearchState)
        except (OSError, DocumentError):
            return SearchState(self.digest)
        return state if state.digest == self.digest else SearchState(self.digest)

    def write(self, state: SearchState) -> None:
        """Replace the file as a whole. Raises OutputError: it can't be written."""
        write_text(self.scratch / self.path.name, encode(state))
        publish(self.scratch / self.path.name, self.path)

    def drop(self) -> None:
        """Remove the file of a search that is over."""
        with suppress(OSError):  # its name may be too long for a file
            self.path.unlink(missing_ok=True)


def searched(
    best: Trial, settings: QuantizeSettings, work: Work, judge: Judge, notes: Notes
) -> tuple[Trial, tuple[Sensitivity, ...]]:
    """Exclude layers, those with the largest error of their own first, until the quantization is good enough.

    Every trial is a whole one: with fewer layers, others' biases and roundings are found anew.

    Returns:
        The trial with the fewest layers in float32, and the sensitivity of all layers.

    Raises:
        DisagreementError: none is good enough.
        OutputError: the notes can't be written.
    """
    state = notes.read()
    if state.judged:
        work.progress.note(f"{notes.path} has {len(state.judged)} trials of this search, which goes on from there")
    problems = dict(state.judged)
    order = state.order or sensitivity(best, work)
    layers = [one for one in order if one.kind == LAYER]
    made = {0: best}

    def good_enough(count: int) -> bool:
        if count not in problems:
            trial = best if count == 0 else _without(best, layers[:count], settings, work)
            error = judge(trial) if trial is not None else None
            problems[count] = NOTHING_LEFT if trial is None else error.message if error is not None else ""
            notes.write(SearchState(notes.digest, order, tuple(problems.items())))
            if trial is not None and not problems[count]:
                made.clear()
                made[count] = trial
        return not problems[count]

    count = fewest(len(layers), good_enough)
    if count is None:
        notes.drop()
        last = [problem for _, problem in sorted(problems.items()) if problem != NOTHING_LEFT][-1]
        raise DisagreementError(
            f"no assignment of layers to int8 and float32 is good enough; the last one: {last}",
            hint="Require less (--min-sqnr, --max-drop), or take float16.",
        )
    found = made.get(count) or _without(best, layers[:count], settings, work)
    return found or best, order


def _without(best: Trial, excluded: Sequence[Sensitivity], settings: QuantizeSettings, work: Work) -> Trial | None:
    """A trial with these layers in float32; None where no layer is left."""
    names = tuple(name for one in excluded for name in one.nodes)
    choices = replace(settings.choices, exclude=(*settings.choices.exclude, *names))
    title = f"Trying with {len(excluded)} of the layers in float32"
    try:
        return work.trial(title, best.model, choices, best.recipe)
    except UsageError:
        return None
