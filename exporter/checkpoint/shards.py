"""Weights in several files with an index, as large networks are saved for the Hugging Face hub."""

import re
from pathlib import Path

import msgspec

from attn_export.exporter.checkpoint.inert import shown
from attn_export.exporter.errors import UnreadableCheckpointError

INDEX = ".index.json"
SHARD = re.compile(r"(.+)-\d+-of-(\d+)(\.\w+)")


class Index(msgspec.Struct, frozen=True):
    """``model.safetensors.index.json``: the file of each tensor."""

    weight_map: dict[str, str]


def files_of(path: Path) -> tuple[Path, ...]:
    """The files that hold the weights of this one: those of an index beside it, else itself.

    Raises:
        UnreadableCheckpointError: it is one part of several, or an index of something else than files beside it.
    """
    if (found := SHARD.fullmatch(path.name)) and int(found[2]) > 1:
        raise UnreadableCheckpointError(
            f"{path} is one of {int(found[2])} parts",
            hint=f"Name their index, which belongs beside them: {path.with_name(found[1] + found[3] + INDEX)}.",
        )
    if not path.name.endswith(INDEX) or not path.is_file():
        return (path,)
    try:
        names = dict.fromkeys(msgspec.json.decode(path.read_bytes(), type=Index).weight_map.values())
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableCheckpointError(
            f"{path} is no index of weights: {error}", hint='Expected is {"weight_map": {tensor: file}}.'
        ) from error
    for name in names:
        if Path(name).name != name or name.endswith(INDEX):
            raise UnreadableCheckpointError(f"{path} names {shown(name)}, which is no file beside it")
    return tuple(path.with_name(name) for name in names)
