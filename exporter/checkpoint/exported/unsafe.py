"""Why an archive isn't read as data."""


class Unsafe(Exception):  # noqa: N818 (it says what the archive is)
    """The archive holds something that isn't data, or that only PyTorch's loader understands; the text says what."""


class Unusable(Exception):  # noqa: N818
    """The program is read, but no network for inference, whoever loads it; the text says what to do."""
