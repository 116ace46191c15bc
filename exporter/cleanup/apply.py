"""Applies rules to a graph until none fires, and verifies each rewrite first."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import onnx_ir as ir

from attn_export.exporter.cleanup.proof import Prover, Unprovable, tolerance_of
from attn_export.exporter.cleanup.replace import UniqueNames, apply_rewrite
from attn_export.exporter.cleanup.rule import Context, Rewrite, Rule, Skip
from attn_export.exporter.errors import CleanupError
from attn_export.exporter.graph.facts import DEFAULT_DOMAINS
from attn_export.exporter.records.cleanup import AppliedRewrite, RevertedRewrite, SkippedRewrite

MAX_PASSES = 100


@dataclass
class RewriteLog:
    """The rewrites that rules applied, skipped and reverted."""

    applied: list[AppliedRewrite] = field(default_factory=list)
    skipped: list[SkippedRewrite] = field(default_factory=list)
    reverted: list[RevertedRewrite] = field(default_factory=list)

    @classmethod
    def joined(cls, logs: Sequence["RewriteLog"]) -> "RewriteLog":
        """Concatenate logs; of equal skips only the last counts."""
        joined = cls()
        for log in logs:
            joined.applied += log.applied
            joined.skipped = [*(skip for skip in joined.skipped if skip not in log.skipped), *log.skipped]
            joined.reverted += log.reverted
        return joined


def apply_to_fixpoint(model: ir.Model, rules: Sequence[Rule], context: Context) -> RewriteLog:
    """Apply the rules to the main graph, in list order, again and again until none fires.

    Raises:
        CleanupError: two rules undo each other forever.
    """
    rewriter = _Rewriter(model.graph, context)
    for _ in range(MAX_PASSES):
        rewriter.log.skipped.clear()
        if not sum(rewriter.run(rule) for rule in rules):
            return rewriter.log
    last = [rewrite.rule for rewrite in rewriter.log.applied[-2:]]
    raise CleanupError(
        f"the rules reach no fixpoint: {' and '.join(sorted(set(last)))} keep firing",
        hint="This is a bug in the cleanup. Please report it with the file.",
    )


class _Rewriter:
    """Runs rules over one graph and logs the rewrites."""

    def __init__(self, graph: ir.Graph, context: Context) -> None:
        self.graph, self.context = graph, context
        self.log, self.names, self.prover = RewriteLog(), UniqueNames(graph), Prover(context.opset)

    def run(self, rule: Rule) -> int:
        """Try a rule at every node; returns the number of rewrites."""
        fired = 0
        for node in list(self.graph):
            if node.graph is None or node.op_type not in rule.roots or node.domain not in DEFAULT_DOMAINS:
                continue
            match = rule.match(node, self.context)
            if isinstance(match, Rewrite):
                fired += self._verify_and_apply(rule, node, match)
            elif isinstance(match, Skip):
                self.log.skipped.append(SkippedRewrite(rule.name, _place(node), match.reason))
        return fired

    def _verify_and_apply(self, rule: Rule, node: ir.Node, rewrite: Rewrite) -> bool:
        place = _place(node)
        if any((entry.rule, entry.place) == (rule.name, place) for entry in self.log.reverted):
            return False
        reason, error, tolerance = "", 0.0, tolerance_of(rewrite, rule.recomputes_constants)
        if rewrite.old.is_graph_output() and rewrite.new.producer() not in rewrite.nodes:
            reason = "the result is a graph output and must keep its name"
        try:
            error = 0.0 if reason else self.prover.error_of(rewrite)
        except Unprovable as unprovable:
            reason = f"it can't be verified: {unprovable}"
        if reason:
            self.log.skipped.append(SkippedRewrite(rule.name, place, reason))
        elif error > tolerance:
            self.log.reverted.append(RevertedRewrite(rule.name, place, error, tolerance))
        else:
            apply_rewrite(self.graph, rewrite, self.names)
            self.log.applied.append(AppliedRewrite(rule.name, place, error))
            return True
        return False


def _place(node: ir.Node) -> str:
    return node.name or node.outputs[0].name or node.op_type


def _obstacle(rewrite: Rewrite) -> str:
    """Why the graph can't take even a correct rewrite; empty if it can."""
    if rewrite.old.is_graph_output() and rewrite.new.producer() not in rewrite.nodes:
        return "the result is a graph output and must keep its name"
    return ""
