"""What this machine has. Nothing here imports torch or any other library it looks for."""
