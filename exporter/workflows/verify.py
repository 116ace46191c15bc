"""Signs packages, and verifies them."""

from collections.abc import Mapping
from pathlib import Path

from attn_export.exporter.deployment.digests import COPY_AGAIN, check_digests, digest_of, files_in
from attn_export.exporter.deployment.manifest import MANIFEST, read_manifest
from attn_export.exporter.deployment.signature import SIGNATURE, digests_in, sign
from attn_export.exporter.errors import ChangedPackageError, UnreadablePackageError
from attn_export.exporter.records.summaries import VerifySummary
from attn_export.exporter.system.files import sha256_of, write_text

HINT = "Expected is the folder of a model in a repository, signed with --sign, or a device folder."


def sign_folder(folder: Path, key: Path) -> Path:
    """Sign every file of a package.

    Raises:
        UnreadablePackageError: the key is of the wrong kind.
        RuntimeUnavailableError: cryptography isn't installed.
        OutputError: the signature can't be written.
    """
    path = folder / SIGNATURE
    write_text(path, sign({name: sha256_of(file) for name, file in files_in(folder).items() if name != SIGNATURE}, key))
    return path


def verify_folder(folder: Path, key: Path | None = None) -> VerifySummary:
    """Compare every file of a package with its digest and, with a public key in PEM, the digests with their signature.

    Raises:
        UnreadablePackageError: it is no package, isn't signed though there is a key, or the key is of the wrong kind.
        ChangedPackageError: a file or the signature was changed.
    """
    signed = (folder / SIGNATURE).is_file()
    if not signed and key is not None:
        raise UnreadablePackageError(f"{folder} isn't signed: there is no {SIGNATURE}", hint=HINT)
    sizes: Mapping[str, int] = {}
    if signed:
        known = digests_in(folder / SIGNATURE, key)
    elif (folder / MANIFEST).is_file():
        files = read_manifest(folder).files
        known = {name: file.sha256 for name, file in files.items()}
        sizes = {name: file.bytes for name, file in files.items()}
    else:
        raise UnreadablePackageError(f"{folder} holds neither {SIGNATURE} nor {MANIFEST}", hint=HINT)
    try:
        found = {
            name: digest_of(file, sizes.get(name)) if name in known else "" for name, file in files_in(folder).items()
        }
    except OSError as error:
        what = f"{error.filename} can't be read: {error.strerror}"
        raise ChangedPackageError(f"{folder} isn't as it was packaged: {what}", hint=COPY_AGAIN) from error
    check_digests(folder, known, found, (SIGNATURE,) if signed else (MANIFEST,))
    return VerifySummary(str(folder), len(known), signed, key is not None)
