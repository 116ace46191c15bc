"""The report as a page. Needs Jinja2 and matplotlib, which `attn_export.exporter.report.write` looks for."""
