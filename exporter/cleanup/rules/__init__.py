"""One file for each kind of rewrite; `attn_export.exporter.cleanup.pipeline` has them in their order."""
