"""Signatures of packages: an in-toto statement with the digest of every file, in a DSSE envelope.

Statement: https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md.
Envelope: https://github.com/secure-systems-lab/dsse/blob/master/envelope.md, with its pre-authentication encoding.
Keys are those of an elliptic curve (ECDSA with SHA-256) or Ed25519, in PEM.
"""

import hashlib
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from attn_export.exporter.errors import ChangedPackageError, RuntimeUnavailableError, UnreadablePackageError
from attn_export.exporter.system.files import read_whole

SIGNATURE = "signature.dsse.json"
STATEMENT, PREDICATE = "https://in-toto.io/Statement/v1", "urn:attn-export:package:1"
PAYLOAD = "application/vnd.in-toto+json"
MOST_BYTES = 2**26
MAKE_KEYS = (
    "For example: openssl ecparam -name prime256v1 -genkey -noout -out key.pem, and openssl ec -in key.pem -pubout "
    "-out pub.pem"
)


class Subject(msgspec.Struct, frozen=True):
    """A file of the statement."""

    name: str
    digest: dict[str, str]


class Statement(msgspec.Struct, frozen=True, rename={"kind": "_type", "predicate_type": "predicateType"}):
    """What is signed."""

    subject: tuple[Subject, ...]
    predicate: dict[str, str] = {}
    kind: str = STATEMENT
    predicate_type: str = PREDICATE


class Signed(msgspec.Struct, frozen=True):
    """One signature, and the SHA-256 of its public key in DER."""

    keyid: str
    sig: str


class Envelope(msgspec.Struct, frozen=True, rename={"payload_type": "payloadType"}):
    """The content of `SIGNATURE`."""

    payload: str
    signatures: tuple[Signed, ...]
    payload_type: str = PAYLOAD


def sign(digests: Mapping[str, str], key: Path) -> str:
    """The envelope of a folder's digests, as JSON.

    ``key`` is private, in PEM.

    Raises:
        UnreadablePackageError: the key can't be read, or is of the wrong kind.
        RuntimeUnavailableError: cryptography isn't installed.
    """
    private = read_key(key, "private")
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    subjects = tuple(Subject(name, {"sha256": digest}) for name, digest in sorted(digests.items()))
    payload = msgspec.json.encode(Statement(subjects))
    signature = private.sign(_encoding(payload), *_curve_options(private))
    public = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    signed = Signed(hashlib.sha256(public).hexdigest(), b64encode(signature).decode())
    return msgspec.json.format(msgspec.json.encode(Envelope(b64encode(payload).decode(), (signed,)))).decode() + "\n"


def digests_in(path: Path, key: Path | None) -> dict[str, str]:
    """The digests of a statement, after its signature was verified if there is a key.

    ``key`` is public, in PEM.

    Raises:
        UnreadablePackageError: envelope or key can't be read, or are of another kind.
        ChangedPackageError: no signature in it is the key's.
        RuntimeUnavailableError: cryptography isn't installed.
    """
    try:
        envelope = msgspec.json.decode(read_whole(path, MOST_BYTES), type=Envelope)
        payload = b64decode(envelope.payload, validate=True)
        statement = msgspec.json.decode(payload, type=Statement)
        digests = {subject.name: subject.digest["sha256"] for subject in statement.subject}
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, RecursionError, NotBase64, KeyError) as error:
        raise _unreadable(path, f"is no signature of a package: {error}", "Package and sign it again.") from error
    if (envelope.payload_type, statement.kind, statement.predicate_type) != (PAYLOAD, STATEMENT, PREDICATE):
        raise _unreadable(path, f"signs something else ({statement.predicate_type})", "Package and sign it again.")
    if key is not None and not _is_signed_by(read_key(key, "public"), envelope, _encoding(payload)):
        raise ChangedPackageError(
            f"{path} isn't signed with the key of {key}",
            hint="Either the signature was changed, or somebody else signed. Don't use what is in the folder.",
        )
    return digests


def read_key(path: Path, kind: str) -> Any:
    """A "private" or "public" key of a curve, in PEM.

    Raises:
        UnreadablePackageError: it can't be read, or is of the wrong kind.
        RuntimeUnavailableError: cryptography isn't installed.
    """
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ec, ed25519
    except ImportError as error:
        raise RuntimeUnavailableError(
            "signatures need cryptography, which isn't installed", hint="pip install 'attn-export[sign]'"
        ) from error
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, f"can't be read: {error.strerror}", MAKE_KEYS) from error
    other = "public" if kind == "private" else "private"
    if f"{other.upper()} KEY-----".encode() in content:
        said = "Sign with key.pem, and verify with pub.pem."
        raise _unreadable(path, f"is a {other} key, and expected is a {kind} one", said)
    try:
        if kind == "private":
            key: Any = serialization.load_pem_private_key(content, password=None)
        else:
            key = serialization.load_pem_public_key(content)
    except TypeError as error:
        raise _unreadable(path, "is encrypted", "Decrypt it into a file that only you can read.") from error
    except Exception as error:  # a ValueError, or what OpenSSL says
        raise _unreadable(path, "is no key in PEM", MAKE_KEYS) from error
    known = (ec.EllipticCurvePrivateKey, ed25519.Ed25519PrivateKey)
    if not isinstance(key, known if kind == "private" else (ec.EllipticCurvePublicKey, ed25519.Ed25519PublicKey)):
        name = type(key).__name__.lstrip("_").removesuffix("PrivateKey").removesuffix("PublicKey")
        raise _unreadable(path, f"is a key of {name}, and expected is an elliptic curve or Ed25519", MAKE_KEYS)
    return key


def _unreadable(path: Path, what: str, hint: str) -> UnreadablePackageError:
    return UnreadablePackageError(f"{path} {what}", hint=hint)


def _encoding(payload: bytes) -> bytes:
    """DSSE's pre-authentication encoding: what the signature is over."""
    return b"DSSEv1 %d %s %d %s" % (len(PAYLOAD), PAYLOAD.encode(), len(payload), payload)


def _curve_options(key: Any) -> tuple[Any, ...]:
    """What `sign` and `verify` of a key want besides: ECDSA's hash."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec

    curves = (ec.EllipticCurvePrivateKey, ec.EllipticCurvePublicKey)
    return (ec.ECDSA(hashes.SHA256()),) if isinstance(key, curves) else ()


def _is_signed_by(key: Any, envelope: Envelope, content: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    for signature in envelope.signatures:
        try:
            key.verify(b64decode(signature.sig), content, *_curve_options(key))
        except (InvalidSignature, NotBase64):
            continue
        return True
    return False
