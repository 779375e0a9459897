"""Where a client connects, and how: the address, TLS, the key, and what may be repeated."""

from __future__ import annotations

import json
import os
import uuid
from dataclasses import dataclass
from pathlib import Path

import grpc

from kakeya.errors import InvalidInputError

DEFAULT_TARGET = "127.0.0.1:50051"
#: The variable that a key is taken from when none is given.
KEY_VARIABLE = "KAKEYA_API_KEY"

# Calls that change nothing may be repeated. Others are sent again only by gRPC's own rule: where they never left, or the
# server says that it has not looked at them.
_READS = (
    {"service": "kakeya.v1.RuntimeService", "method": "GetSessionInfo"},
    {"service": "kakeya.v1.SessionService", "method": "ListSessions"},
    {"service": "kakeya.v1.SessionService", "method": "GetStateDigest"},
)
_RETRIES = {
    "maxAttempts": 4,
    "initialBackoff": "0.1s",
    "maxBackoff": "1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.service_config", json.dumps({"methodConfig": [{"name": _READS, "retryPolicy": _RETRIES}]})),
    ("grpc.max_receive_message_length", 64 << 20),
    # A connection that is dead is noticed while a call waits on it.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Clients to different servers that come and go share nothing.
    ("grpc.use_local_subchannel_pool", 1),
)


@dataclass(frozen=True)
class TLS:
    """Certificates, as PEM bytes or as the paths of PEM files."""

    #: Roots that the server's certificate must lead to; without, those of gRPC.
    root_certificates: bytes | str | Path | None = None
    #: This side's own certificate and its key, for servers with `--tls-client-ca`.
    certificate: bytes | str | Path | None = None
    private_key: bytes | str | Path | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """For gRPC."""
        if (self.certificate is None) != (self.private_key is None):
            raise InvalidInputError("TLS has a certificate or a private_key alone, and needs both or neither")
        return grpc.ssl_channel_credentials(
            _pem("root_certificates", self.root_certificates),
            _pem("private_key", self.private_key),
            _pem("certificate", self.certificate),
        )


#: What is sent beside a call.
Metadata = tuple[tuple[str, str], ...]

#: Where a proxy in front of several servers finds what to choose by (docs/ops/several-machines.md).
_ROUTE = "kakeya-route"
_MAX_ROUTE = 256


@dataclass(frozen=True)
class Settings:
    """How a client connects, checked."""

    target: str
    credentials: grpc.ChannelCredentials | None
    metadata: Metadata
    compression: grpc.Compression
    options: tuple[tuple[str, str | int], ...] = _OPTIONS

    @classmethod
    def of(cls, target: str, key: str | None, tls: bool | TLS, compress: bool) -> Settings:
        """The settings that were asked for."""
        certificates = TLS() if tls is True else tls
        key = os.environ.get(KEY_VARIABLE) if key is None else key
        return cls(
            target=_target(target),
            credentials=certificates.credentials() if isinstance(certificates, TLS) else None,
            metadata=() if key is None else (("authorization", f"Bearer {_key(key)}"),),
            compression=grpc.Compression.Gzip if compress else grpc.Compression.NoCompression,
        )


def route(given: object) -> str:
    """What proxies choose a server by: the name that was given, or a fresh one of its own for each session."""
    if given is None:
        return uuid.uuid4().hex
    if not isinstance(given, str) or not 0 < len(given) <= _MAX_ROUTE or not all("!" <= char <= "~" for char in given):
        advice = "any text that tells sessions apart, such as a UUID"
        message = f"the route is {given!r}, and must be 1 to {_MAX_ROUTE} printable ASCII characters without blanks"
        raise InvalidInputError(message, advice=advice)
    return given


def routed(metadata: Metadata, route: str | None) -> Metadata:
    """The metadata of a call that goes where `route` goes."""
    return metadata if route is None else (*metadata, (_ROUTE, route))


def _target(target: object) -> str:
    advice = f"such as {DEFAULT_TARGET}, which `kakeya serve` prints after `listening on`"
    if not isinstance(target, str):
        raise InvalidInputError(f"the address is {target!r}, and must be host:port", advice=advice)
    if "://" in target:
        message = f"the address is {target!r}, and must be host:port without a scheme"
        raise InvalidInputError(message, advice=f"{advice}; TLS is asked for with tls=True")
    host, _, port = target.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536 or target != target.strip():
        raise InvalidInputError(f"the address is {target!r}, and must be host:port", advice=advice)
    return target


def _key(key: object) -> str:
    if not isinstance(key, str):
        raise InvalidInputError(f"the key is of type {type(key).__name__}, and must be a str")
    if not key:
        raise InvalidInputError("the key is empty", advice=f"leave it out where the server has no keys ({KEY_VARIABLE})")
    for index, char in enumerate(key):
        if not "!" <= char <= "~":
            what = {"\n": "a line end", "\r": "a line end", " ": "a blank"}.get(char, "a character that is no ASCII")
            advice = "a key read from a file wants .strip()" if char.isspace() else "copy it again as `kakeya key new` printed it"
            raise InvalidInputError(f"the key has {what} at index {index}", advice=advice)
    return key


def _pem(name: str, value: bytes | str | Path | None) -> bytes | None:
    if value is None or isinstance(value, bytes):
        return value
    try:
        return Path(value).read_bytes()
    except OSError as error:
        raise InvalidInputError(f"{name} cannot be read from {value}: {error.strerror}") from error
