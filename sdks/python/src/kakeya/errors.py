"""What goes wrong, one type for each gRPC status, each saying the cause and what to do next."""

from __future__ import annotations

from typing import NoReturn

import grpc


class KakeyaError(Exception):
    """A call that did not do what it was asked to. `status` is the server's, or None where nothing was sent."""

    status: grpc.StatusCode | None = None
    #: What to do next, for the cases that the text does not say it of.
    advice = ""

    def __init__(self, detail: str, *, status: grpc.StatusCode | None = None, advice: str | None = None) -> None:
        self.detail = detail
        self.advice = type(self).advice if advice is None else advice
        self.status = status or type(self).status
        super().__init__(f"{detail} - {self.advice}" if self.advice else detail)


class CallCancelledError(KakeyaError):
    """CANCELLED: the call was given up, by this side or because the server stopped."""

    status = grpc.StatusCode.CANCELLED


class UnknownError(KakeyaError):
    """UNKNOWN: something between here and the server answered what no Kakeya server does."""

    status = grpc.StatusCode.UNKNOWN
    advice = "is this the gRPC port of `kakeya serve`, and nothing else between?"


class InvalidArgumentError(KakeyaError):
    """INVALID_ARGUMENT: a value is out of its range, and the session is as it was."""

    status = grpc.StatusCode.INVALID_ARGUMENT


class InvalidInputError(InvalidArgumentError, ValueError):
    """A value that was refused before anything was sent."""

    def __init__(self, detail: str, *, advice: str | None = None) -> None:
        super().__init__(detail, advice=advice)


class HistoryTooLongError(InvalidArgumentError):
    """The session cannot take so many tokens: the model's context, or the `max_history` of a limit, is used up."""

    advice = "append fewer tokens, begin a new session, or serve with a bounded `--window` or a larger `--max-history`"


class DeadlineExceededError(KakeyaError):
    """DEADLINE_EXCEEDED: the time was over. A session keeps exactly the tokens that were emitted until then."""

    status = grpc.StatusCode.DEADLINE_EXCEEDED
    advice = "give a larger `timeout=`, or none, and look at session.info() before you ask again"


class NotFoundError(KakeyaError):
    """NOT_FOUND: this server has no such session, or not for this key."""

    status = grpc.StatusCode.NOT_FOUND
    advice = (
        "open a new one with client.session() and append its history again. Sessions end when they are closed, idle for "
        "longer than `--idle-ttl`, evicted for a newer one (`--capacity`), or with their server (`--state-dir` keeps "
        "them); each belongs to one server and one key"
    )


class AlreadyExistsError(KakeyaError):
    """ALREADY_EXISTS: no Kakeya server of this version answers it."""

    status = grpc.StatusCode.ALREADY_EXISTS


class PermissionDeniedError(KakeyaError):
    """PERMISSION_DENIED: something in front of the server refused, since Kakeya itself does not answer it."""

    status = grpc.StatusCode.PERMISSION_DENIED
    advice = "ask who runs the proxy in front of the server"


class ResourceExhaustedError(KakeyaError):
    """RESOURCE_EXHAUSTED: every place is taken, or a limit is used up for now. Nothing was done."""

    status = grpc.StatusCode.RESOURCE_EXHAUSTED
    advice = "ask again later, close sessions that are done, or serve with a larger `--capacity`"


class FailedPreconditionError(KakeyaError):
    """FAILED_PRECONDITION: a snapshot of other settings, or a session that broke an invariant and has ended."""

    status = grpc.StatusCode.FAILED_PRECONDITION


class AbortedError(KakeyaError):
    """ABORTED: no Kakeya server of this version answers it."""

    status = grpc.StatusCode.ABORTED


class MessageTooLargeError(KakeyaError):
    """OUT_OF_RANGE: one message is larger than 4 MiB."""

    status = grpc.StatusCode.OUT_OF_RANGE
    advice = "append in pieces of at most 1000000 tokens: the session is the same, to the bit"


class UnimplementedError(KakeyaError):
    """UNIMPLEMENTED: the server does not have this call."""

    status = grpc.StatusCode.UNIMPLEMENTED
    advice = "the server is older than this package, or another program: compare `kakeya --version` with kakeya.__version__"


class InternalError(KakeyaError):
    """INTERNAL: a fault of the server."""

    status = grpc.StatusCode.INTERNAL
    advice = "the server's log says more"


class UnavailableError(KakeyaError):
    """UNAVAILABLE: nobody answered, or who answered takes no work."""

    status = grpc.StatusCode.UNAVAILABLE


class ServerUnreachableError(UnavailableError):
    """No Kakeya server answers at the address. The call has not reached one."""


class ServerStoppingError(UnavailableError):
    """The server is draining, or its engine has stopped: it takes no new work."""

    advice = "wait until it is back, or connect to another; `--state-dir` keeps sessions over a restart"


class ConnectionLostError(UnavailableError):
    """The connection broke during the call, which may or may not have been done: it is not repeated."""

    advice = "if the server is still there, session.info() says how long the history has become; then decide"


class DataLossError(KakeyaError):
    """DATA_LOSS: a snapshot is damaged."""

    status = grpc.StatusCode.DATA_LOSS
    advice = "take the snapshot again"


class UnauthenticatedError(KakeyaError):
    """UNAUTHENTICATED: no key, or one that the server does not know."""

    status = grpc.StatusCode.UNAUTHENTICATED
    advice = "give Client(key=...) or set KAKEYA_API_KEY; `kakeya key new NAME` makes one for the server's `--keys` file"


class ForkedClientError(KakeyaError):
    """A client was made before os.fork() and used after it, where its connection does not work."""

    advice = "make the Client in the process that uses it"


class ClosedClientError(KakeyaError):
    """A client was used after it was closed."""

    advice = "make a new Client, or do the work inside its `with` block"


_OF_STATUS: dict[grpc.StatusCode, type[KakeyaError]] = {
    error.status: error
    for error in (
        CallCancelledError,
        UnknownError,
        InvalidArgumentError,
        DeadlineExceededError,
        NotFoundError,
        AlreadyExistsError,
        PermissionDeniedError,
        ResourceExhaustedError,
        FailedPreconditionError,
        AbortedError,
        MessageTooLargeError,
        UnimplementedError,
        InternalError,
        UnavailableError,
        DataLossError,
        UnauthenticatedError,
    )
    if error.status is not None
}


def from_status(status: grpc.StatusCode, detail: str, target: str) -> KakeyaError:
    """The error that a call to `target` ended with."""
    if status is grpc.StatusCode.UNAVAILABLE:
        return _unavailable(detail, target)
    if status is grpc.StatusCode.INVALID_ARGUMENT and _is_too_long(detail):
        return HistoryTooLongError(detail)
    if status is grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in detail:
        return MessageTooLargeError(detail, status=status)
    return _OF_STATUS.get(status, UnknownError)(detail or status.name, status=status)


def raise_from(error: grpc.RpcError, target: str) -> NoReturn:
    """Raises what a call to `target` ended with, as an error of this module."""
    code, details = getattr(error, "code", None), getattr(error, "details", None)
    status = code() if callable(code) else grpc.StatusCode.UNKNOWN
    raise from_status(status, (details() if callable(details) else "") or "", target) from error


def _is_too_long(detail: str) -> bool:
    return "pass the model's context" in detail or "tokens of history and" in detail


def _unavailable(detail: str, target: str) -> UnavailableError:
    if detail.startswith("the engine "):
        return ServerStoppingError(f"the server at {target} takes no work: {detail}")
    if detail.startswith("errors resolving"):
        advice = "give host:port as `kakeya serve` prints it after `listening on`"
        return ServerUnreachableError(f"{target} names no machine that can be found ({detail})", advice=advice)
    if not detail.startswith("failed to connect"):
        return ConnectionLostError(f"the connection to {target} broke ({detail})")
    if "certificate" in detail.lower() and "verify" in detail.lower():
        advice = "give Client(tls=TLS(root_certificates=...)) the certificate that the server's own leads to"
        return ServerUnreachableError(f"the certificate of {target} is not trusted here ({detail})", advice=advice)
    if "WRONG_VERSION_NUMBER" in detail:
        advice = "leave `tls` out, or start the server with `--tls-cert` and `--tls-key`"
        return ServerUnreachableError(f"what listens at {target} does not speak TLS ({detail})", advice=advice)
    if "refused" in detail.lower():
        advice = f"start one with `kakeya serve --bind {target}`, or give the address it prints after `listening on`"
        return ServerUnreachableError(f"no server listens at {target} ({detail})", advice=advice)
    if "Socket closed" in detail or "reset" in detail.lower() or "HTTP" in detail:
        advice = (
            "give the port after `listening on`, not that after `http listening on`; or, if the server has certificates, "
            "Client(tls=True)"
        )
        return ServerUnreachableError(f"what listens at {target} does not speak plain gRPC ({detail})", advice=advice)
    advice = "is the machine up, the address right, and no firewall between?"
    return ServerUnreachableError(f"{target} cannot be reached ({detail})", advice=advice)
