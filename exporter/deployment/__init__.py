"""Folders that artifacts are deployed in: model repositories for Triton, device folders."""
