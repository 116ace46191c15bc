"""Applying rules until nothing more fires, each rewrite proven before it takes place."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from attn_export.exporter.cleanup.proof import Prover, Unprovable, allowed
from attn_export.exporter.cleanup.replace import Names, carry_out
from attn_export.exporter.cleanup.rule import Context, Rewrite, Rule, Skip
from attn_export.exporter.errors import CleanupError
from attn_export.exporter.graph.facts import DEFAULT_DOMAINS
from attn_export.exporter.records.cleanup import AppliedRewrite, RevertedRewrite, SkippedRewrite

MOST_ROUNDS = 100


@dataclass
class Log:
    """What the rules did."""

    applied: list[AppliedRewrite] = field(default_factory=list)
    skipped: list[SkippedRewrite] = field(default_factory=list)
    reverted: list[RevertedRewrite] = field(default_factory=list)

    @classmethod
    def joined(cls, logs: Sequence["Log"]) -> "Log":
        """Several, one after the other."""
        joined = cls()
        for log in logs:
            joined.applied += log.applied
            joined.skipped = [*(m for m in joined.skipped if m not in log.skipped), *log.skipped]
            joined.reverted += log.reverted
        return joined


def apply_to_fixpoint(model: ir.Model, rules: Sequence[Rule], context: Context) -> Log:
    """Apply the rules to the main graph, in the order of the list and over again, until none of them fires.

    Raises:
        CleanupError: two rules undo each other's work for ever.
    """
    bench = _Bench(model.graph, context)
    for _ in range(MOST_ROUNDS):
        bench.log.skipped.clear()
        if not sum(bench.sweep(rule) for rule in rules):
            return bench.log
    last = [firing.rule for firing in bench.log.applied[-2:]]
    raise CleanupError(
        f"the rules don't come to rest: {' and '.join(sorted(set(last)))} keep firing",
        step=last[-1],
        hint="This is a defect of the cleanup. Please report it with the file.",
    )


class _Bench:
    """A graph being worked on, and what was found out on the way."""

    def __init__(self, graph: ir.Graph, context: Context) -> None:
        self.graph, self.context = graph, context
        self.log, self.names, self.prover = Log(), Names(graph), Prover(context.opset)

    def sweep(self, rule: Rule) -> int:
        """Look at every node once; how often the rule fired."""
        fired = 0
        for node in list(self.graph):
            if node.graph is None or node.op_type not in rule.roots or node.domain not in DEFAULT_DOMAINS:
                continue
            proposal = rule.at(node, self.context)
            if isinstance(proposal, Rewrite):
                fired += self._take_up(rule, node, proposal)
            elif isinstance(proposal, Skip):
                self.log.skipped.append(SkippedRewrite(rule.name, _place(node), proposal.reason))
        return fired

    def _take_up(self, rule: Rule, node: ir.Node, rewrite: Rewrite) -> bool:
        """Prove the rewrite and carry it out; whether that was done."""
        place = _place(node)
        if any((entry.rule, entry.place) == (rule.name, place) for entry in self.log.reverted):
            return False
        reason, error, limit = _obstacle(rewrite), 0.0, allowed(rewrite, rule.recomputes_constants)
        try:
            error = 0.0 if reason else self.prover.error_of(rewrite)
        except Unprovable as unprovable:
            reason = f"it can't be proved: {unprovable}"
        if reason:
            self.log.skipped.append(SkippedRewrite(rule.name, place, reason))
        elif error > limit:
            self.log.reverted.append(RevertedRewrite(rule.name, place, error, limit))
        else:
            carry_out(self.graph, rewrite, self.names)
            self.log.applied.append(AppliedRewrite(rule.name, place, error))
            return True
        return False


def _place(node: ir.Node) -> str:
    return node.name or node.outputs[0].name or node.op_type


def _obstacle(rewrite: Rewrite) -> str:
    """Why the graph can't take this rewrite, whatever it computes."""
    if rewrite.old.is_graph_output() and rewrite.new.producer() not in rewrite.nodes:
        return "its result is an output of the graph, and has to keep its name"
    return ""
