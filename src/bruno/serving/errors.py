"""Refusals of the service: one status and one sentence each."""

from __future__ import annotations

from bruno.errors import UserError


class RefusalError(UserError):
    """A request that is answered with a status and a reason.

    Attributes:
        status: HTTP status, 4xx or 503 or 507.
        retry_after: Seconds after which it may succeed; ``None`` if it never will.
    """

    def __init__(self, status: int, reason: str, retry_after: int | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.retry_after = retry_after


def not_found(kind: str, name: str) -> RefusalError:
    """Return the refusal of something that is not there.

    Args:
        kind: What it is.
        name: Its name or id.
    """
    return RefusalError(404, f"{kind}: there is no {name!r}")
