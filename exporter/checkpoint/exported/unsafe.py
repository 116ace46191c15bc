"""Why an archive isn't read as data."""

OTHER_VERSION = (
    "Export it again with this version of PyTorch. Or save the weights alone with the one that wrote it, "
    "torch.save(model.state_dict(), 'model.pt'), and name the network's code: --code FILE.py:CLASS."
)
EVALUATION = "Export it again after model.eval(). What forward writes into a buffer has to be an input and an output."


class Unsafe(Exception):  # noqa: N818 (it says what the archive is)
    """The archive holds something that isn't data, or that only PyTorch's loader understands; the text says what."""


class Unusable(Exception):  # noqa: N818
    """No network that can be exported, whoever loads the program; ``hint`` says what to do before another export."""

    def __init__(self, reason: str, hint: str = EVALUATION) -> None:
        super().__init__(reason)
        self.hint = hint
