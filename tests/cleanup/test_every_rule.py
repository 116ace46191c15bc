"""What is to be true of every rule, over the tables of cases that the files beside this one hold."""

import pytest

from attn_export.exporter.artifacts import Target
from attn_export.exporter.cleanup.rules import INTEGER_RULES, RULES, TARGET_RULES
from tests.cleanup import (
    test_rules_activations,
    test_rules_gates,
    test_rules_onnxruntime,
    test_rules_parts,
    test_rules_pixels,
    test_rules_pools,
    test_rules_sizes,
    test_rules_tensorrt,
    test_rules_views,
    test_rules_weights,
)
from tests.cleanup.conftest import Fires, Keeps

TABLES = (
    test_rules_activations,
    test_rules_gates,
    test_rules_onnxruntime,
    test_rules_parts,
    test_rules_pixels,
    test_rules_pools,
    test_rules_sizes,
    test_rules_tensorrt,
    test_rules_views,
    test_rules_weights,
)
FIRES = [case for table in TABLES for case in table.FIRES]
TARGETS = [Target.ANY, *(pytest.param(t, marks=pytest.mark.full) for t in Target if t is not Target.ANY)]
KEEPS = [case for table in TABLES for case in table.KEEPS]


@pytest.mark.parametrize("case", FIRES, ids=str)
def test_the_rule_fires(case: Fires) -> None:
    case.assert_fires()


@pytest.mark.parametrize("case", FIRES, ids=str)
def test_the_graph_computes_what_it_did(case: Fires) -> None:
    case.assert_same()


@pytest.mark.parametrize("case", FIRES, ids=str)
def test_the_rule_comes_to_rest(case: Fires) -> None:
    case.assert_rests()


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", FIRES, ids=str)
def test_cleaning_twice_is_cleaning_once(case: Fires, target: Target) -> None:
    case.assert_cleaned(target)


@pytest.mark.parametrize("case", KEEPS, ids=str)
def test_the_rule_keeps_away(case: Keeps) -> None:
    case.assert_keeps()


def test_every_rule_has_cases_of_both_kinds() -> None:
    """A rule that is added to the pipeline without its cases would otherwise go untested."""
    shaping = {rule.name for rules in TARGET_RULES.values() for rule in rules}
    listed = {rule.name for rule in (*RULES, *INTEGER_RULES)} | shaping
    assert listed <= {case.rule.name for case in FIRES}
    assert listed <= {case.rule.name for case in KEEPS}
