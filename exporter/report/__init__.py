"""What was found out, as a record for machines and as tables for people. Renders, and measures nothing."""
