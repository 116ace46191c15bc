"""A quantized file against its network, without the rounding: its layers, weights and wiring are judged as floats.

Compared with its own graph alone, a file with one QuantizeLinear would agree with any network; and the quality of its
outputs hides every fault that is smaller than the noise of quantization. What remains without rounding is an error of
the weights, and how large that may be is known: another rounding of the same weights is as good.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import onnx_ir as ir

from attn_export.exporter.artifacts import Signature
from attn_export.exporter.errors import InputError
from attn_export.exporter.graph.facts import name_of
from attn_export.exporter.graph.gates import gates_of
from attn_export.exporter.graph.session import PlainSession, SessionError
from attn_export.exporter.network.batches import Batch
from attn_export.exporter.records.arrays import Array
from attn_export.exporter.records.artifact import Artifact
from attn_export.exporter.records.policies import POLICIES
from attn_export.exporter.records.verdict import Comparison
from attn_export.exporter.runtimes.base import Settings
from attn_export.exporter.runtimes.quantized_operators import load_in_pairs
from attn_export.exporter.validation.baseline import PERTURBED_RUNS
from attn_export.exporter.validation.metrics import DISCRETE
from attn_export.exporter.validation.reference import Reference
from attn_export.exporter.validation.unrounded import Bounds, activations, without_rounding
from attn_export.exporter.validation.validate import paired
from attn_export.exporter.validation.verdict import compare_arrays

Choice = Mapping[str, Bounds | None]
# Max error ratio where weights are quantized, see docs/validation.md; good files reach 4.
LIMIT = 6.0
# A gate whose logits move by less than 1/256 moves nothing by a step of eight bits.
GATE_STEP = 2**-8
# Where a file disagrees at first, more draws make its baseline error surer.
MORE_DRAWS = 2
# Of activations: each takes one run of four images.
MOST_TRIED = 96
BETTER = 0.99
TINY = 1e-12


def compare_without_rounding(
    artifact: Artifact, signature: Signature, reference: Reference, settings: Settings
) -> tuple[list[Comparison], str]:
    """Compare all gates and outputs with the network; also names the gates without a counterpart.

    Raises:
        InputError: the rounding can't be taken out, or ONNX Runtime doesn't take what remains.
    """
    part = _FloatPart(artifact, signature, reference, settings)
    try:
        choice: Choice = {tensor: bounds[0] for tensor, bounds in part.possible.items()}
        comparisons = part.compare(choice)
        if not all(comparison.agrees for comparison in comparisons):
            comparisons = part.compare(part.best(choice), MORE_DRAWS)
    except SessionError as error:
        raise InputError(f"ONNX Runtime can't compute {artifact.path.name} without its rounding: {error}") from error
    return comparisons, part.missed


class _FloatPart:
    def __init__(self, artifact: Artifact, signature: Signature, reference: Reference, settings: Settings) -> None:
        assert artifact.quantized is not None
        self._model = load_in_pairs(artifact.quantized)
        self.possible = activations(self._model)
        self._precision, self._reference, self._settings = artifact.precision, reference, settings
        self._signature = signature
        paths = reference.exact[0].gate_paths
        floats = self._floats({})
        gates, self.missed = paired(paths, gates_of(floats))
        computed = {value.name for node in floats.graph for value in node.outputs}
        self._tensors = [("gate", i, paths[i], gate.tensor) for i, gate in gates.items() if gate.tensor in computed]
        self._tensors += [("output", i, name, name) for i, name in enumerate(signature.output_names)]

    def compare(self, choice: Choice, draws: int = 1) -> list[Comparison]:
        """The comparisons with these activations put back.

        The baseline error is PyTorch's own, moved by what other roundings of the weights change.
        """
        reference = self._reference
        computed = self._run(choice, reference.batches)
        others = [self._run(choice, reference.batches, seed) for seed in range(1, draws * PERTURBED_RUNS + 1)]
        comparisons = []
        for place, (role, i, name, _) in enumerate(self._tensors):
            exact = [result.of(role)[i] for result in reference.exact]
            baseline = [result.of(role)[i] for result in reference.baselines[self._precision]]
            arrays = [results[place] for results in computed]
            policy = POLICIES[self._precision]
            moved = [[other[b][place] - array for other in others] for b, array in enumerate(arrays)]
            fits = all(array.size == expected.size for array, expected in zip(arrays, exact, strict=True))
            if fits and any(change.any() for changes in moved for change in changes):
                floor = max(policy.floor, GATE_STEP if role == "gate" else 0.0)
                policy = replace(policy, limit=LIMIT, floor=floor, gate_logits=1.0)
                baseline = [_moved(*each) for each in zip(baseline, arrays, moved, strict=True)]
            comparisons.append(compare_arrays(name, role, arrays, exact, baseline, reference.batches, policy))
        return comparisons

    def best(self, choice: Choice) -> Choice:
        """The activations with which the first batch is nearest to the network.

        One is decided after the other, the least different first, until nothing improves.
        """
        chosen, least, tried = dict(choice), self._distance(choice), 0
        improves = True
        while improves:
            improves = False
            for tensor, other in self._alternatives(chosen):
                tried += 1
                if tried > MOST_TRIED:
                    return chosen
                distance = self._distance({**chosen, tensor: other})
                if distance < least + math.log(BETTER):
                    chosen[tensor], least, improves = other, distance, True
        return chosen

    def _alternatives(self, chosen: Choice) -> list[tuple[str, Bounds | None]]:
        """The other activations that make a difference, the smallest first: what is rarely negative is no ReLU."""
        model = self._floats(chosen)
        nodes = [node for node in model.graph if node.outputs[0].name in chosen]
        before = {str(node.outputs[0].name): name_of(node.inputs[0]) for node in nodes}
        (values,) = self._values(model, list(before.values()), self._reference.batches[:1])
        found: list[tuple[float, str, Bounds | None]] = []
        for tensor, bounds in self.possible.items():
            x = values[before[tensor]] if tensor in before else np.zeros(())
            for other in bounds:
                changed = np.abs(_clipped(x, other) - _clipped(x, chosen[tensor])).sum() / max(np.abs(x).sum(), TINY)
                if changed or (tensor not in before and other != chosen[tensor]):
                    found.append((changed, tensor, other))
        return [(tensor, other) for _, tensor, other in sorted(found, key=lambda entry: entry[0])]

    def _distance(self, choice: Choice) -> float:
        """The sum of the logarithms of all errors."""
        (results,) = self._run(choice, self._reference.batches[:1])
        total = 0.0
        for place, (role, i, *_) in enumerate(self._tensors):
            exact = np.asarray(self._reference.exact[0].of(role)[i], np.float64)
            array = results[place]
            if array.size == exact.size:
                length = float(np.linalg.norm(exact)) or TINY
                total += math.log(max(float(np.linalg.norm(array.reshape(exact.shape) - exact)) / length, TINY))
        return total

    def _run(self, choice: Choice, batches: Sequence[Batch], seed: int | None = None) -> list[tuple[Array, ...]]:
        model = self._floats(choice, None if seed is None else np.random.default_rng(seed))
        names = [tensor for *_, tensor in self._tensors]
        return [tuple(values[name] for name in names) for values in self._values(model, names, batches)]

    def _values(self, model: ir.Model, names: Sequence[str], batches: Sequence[Batch]) -> list[dict[str, Array]]:
        """The named tensors for each batch, in double precision."""
        types = {str(value.name): value.dtype for value in model.graph.inputs}
        computed = {value.name: value for node in model.graph for value in node.outputs}
        wanted = [computed[name] for name in dict.fromkeys(names) if name in computed]
        model.graph.outputs.extend(value for value in wanted if not value.is_graph_output())
        session = PlainSession(model, self._settings.threads)
        results = []
        for batch in batches:
            arrays = self._signature.feeds(batch.arrays)
            feeds = {
                name: array.astype(kind.numpy()) if (kind := types[name]) else array for name, array in arrays.items()
            }
            outputs = {**feeds, **session.run(feeds)}
            results.append({name: np.asarray(outputs[name], np.float64) for name in names})
        return results

    def _floats(self, choice: Choice, draw: np.random.Generator | None = None) -> ir.Model:
        model = ir.from_proto(without_rounding(self._model, choice, draw))
        model.graph.sort()
        return model


def _clipped(x: Array, bounds: Bounds | None) -> Array:
    return x if bounds is None else np.clip(x, *bounds)


def _moved(baseline: Array, array: Array, changes: Sequence[Array]) -> Array:
    """The baseline runs, moved by what other roundings of the weights change.

    The baseline has `PERTURBED_RUNS` times N rows, the array N; the changes have N each.
    """
    moved = np.concatenate(changes)
    if baseline.dtype.kind in DISCRETE:
        return moved + np.concatenate([array] * len(changes))
    repeated = np.concatenate([baseline] * (len(changes) // PERTURBED_RUNS))
    return repeated + moved.reshape(repeated.shape)
