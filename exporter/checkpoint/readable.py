"""Whether a file can be a checkpoint at all, before it is read: no pipe, no bomb, whole."""

import zipfile
from pathlib import Path

import psutil

from attn_export.exporter.checkpoint.inert import shown
from attn_export.exporter.checkpoint.pickles.files import names_in
from attn_export.exporter.checkpoint.shards import INDEX
from attn_export.exporter.errors import AttnExportError, UnreadableCheckpointError
from attn_export.exporter.system.file_kinds import CHECKPOINT, CHECKPOINTS, kind_of

ZIP_MAGIC = b"PK\x03\x04"
# First bytes of torch.save's formats before 1.6 (a pickle), and of the tar files before those.
# Weights hardly get smaller when they are packed, and torch.save doesn't pack them.
MOST_UNPACKED, SMALL = 20, 2**26
OLD_MAGICS = (b"\x80", b"sys_info", b"pickle", b"storages", b"tensors")


def check_readable(path: Path) -> None:
    """Refuse files that aren't checkpoints. Raises UnreadableCheckpointError: it can't be one."""
    if not path.exists():
        raise UnreadableCheckpointError(f"{path} does not exist", hint="Check the path.")
    if path.is_dir():
        raise UnreadableCheckpointError(f"{path} is a directory, not a checkpoint file", hint=_file_in(path))
    if not path.is_file():
        raise UnreadableCheckpointError(f"{path} is a device or a pipe, and no file", hint="Copy it to a file.")
    try:
        with path.open("rb") as stream:
            head = stream.read(1)
    except OSError as error:
        raise UnreadableCheckpointError(f"{path} can't be read: {error.strerror}") from error
    if not head:
        raise UnreadableCheckpointError(f"{path} is empty", hint="Was it written to a full disk? Save it again.")
    size, memory = path.stat().st_size, psutil.virtual_memory().total
    if size > memory:
        raise UnreadableCheckpointError(
            f"{path} has {size / 2**30:.0f} GiB, and this machine {memory / 2**30:.0f} GiB of memory",
            hint="Save the weights alone, without the optimizer's state.",
        )


def _file_in(folder: Path) -> str:
    """What to name instead of a folder."""
    if (folder / ".metadata").is_file():
        return (
            "It was saved by torch.distributed.checkpoint: torch.distributed.checkpoint.format_utils."
            f"dcp_to_torch_save('{folder}', 'model.pt') makes a file of it."
        )
    found = sorted(
        (path for path in folder.iterdir() if path.name.endswith((INDEX, *CHECKPOINTS))),
        key=lambda path: (not path.name.endswith(INDEX), path.name),
    )
    return f"Name the file in it: {shown(str(found[0])) if found else 'model.pt or the like'}."


def check_pickled(path: Path) -> None:
    """Refuse files that torch.save didn't write. Raises UnreadableCheckpointError: it can't be one of these."""
    with path.open("rb") as stream:
        head = stream.read(64)
        if (kind := kind_of(path)) is not None and kind is not CHECKPOINT:
            raise UnreadableCheckpointError(
                f"{path} is not a PyTorch checkpoint: it is {kind.name}", hint=kind.hint.format(path=path)
            )
        if head.startswith(ZIP_MAGIC):
            check_archive(path)
        elif not head.startswith(OLD_MAGICS) and not _names(path):
            raise UnreadableCheckpointError(
                f"{path} is not a PyTorch checkpoint: it starts with {head[:16]!r}",
                hint="Expected is a file that torch.save wrote.",
            )


def _names(path: Path) -> list[str]:
    with path.open("rb") as stream:
        return names_in(stream, path.stat().st_size)


def check_archive(path: Path) -> None:
    """Check the zip format of torch 1.6 and later: complete, and a checkpoint.

    Raises:
        UnreadableCheckpointError: it isn't.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [name.partition("/")[2] for name in archive.namelist()]
            checksums = any(entry.CRC for entry in archive.infolist())
            _refuse_bombs(archive, path)
            changed = [entry for entry in archive.infolist() if not _is_intact(archive, entry)]
    except AttnExportError:
        raise
    except Exception as error:  # zipfile raises a dozen types for damaged archives
        raise UnreadableCheckpointError(
            f"{path} is truncated or damaged: its table of contents can't be found",
            hint="Copy it again, and compare the sizes of the two files.",
        ) from error
    # A file may be written without checksums: torch.serialization.set_crc32_options.
    if changed and checksums:
        raise UnreadableCheckpointError(
            f"{path} is damaged: the checksum of {changed[0].filename} is wrong",
            hint="Copy it again from where it was made.",
        )
    if "data.pkl" not in entries:
        raise UnreadableCheckpointError(
            f"{path} is a zip archive without a checkpoint in it", hint="Expected is a file that torch.save wrote."
        )


def _refuse_bombs(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse archives of parts that overlap, or that unpack to many times their size."""
    unpacked = sum(entry.file_size for entry in archive.infolist())
    if unpacked > MOST_UNPACKED * path.stat().st_size + SMALL:
        raise UnreadableCheckpointError(
            f"{path} unpacks to {unpacked / 2**30:.1f} GiB, many times its size",
            hint="torch.save doesn't pack its files: save it again.",
        )


def _is_intact(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(entry) as stream:
            while stream.read(2**20):
                pass
    except zipfile.BadZipFile as error:
        if "CRC" not in str(error):
            raise
        return False
    return True
