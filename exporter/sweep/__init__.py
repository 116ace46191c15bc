"""Sweeps over networks, precisions, targets, batches and runtimes: the plan, its cells, where they run, their results.

How a cell is computed is an argument: `attn_export.exporter.workflows.sweep_job` knows that.
"""
