"""Pickles read as data: no name in them is imported, and memory and time stay within the file's size."""
