"""Networks with a slot for attention: one file per family."""
