"""What is found out, typed once: frozen structs that are encoded to JSON and decoded from it."""
