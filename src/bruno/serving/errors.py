"""Refusals of the service: one status and one sentence each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bruno.errors import UserError

_LONGEST_SHOWN = 60


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


def refusal_of(error: Mapping[str, Any]) -> tuple[int, str]:
    """Return status and reason of a body, path or header that is not as described.

    Args:
        error: The first error of pydantic.

    Example:
        >>> error = {"type": "less_than_equal", "loc": ("body", "count"), "input": 99}
        >>> refusal_of(error | {"msg": "Input should be less than or equal to 64"})
        (422, 'count: Input should be less than or equal to 64, got 99')
    """
    given, reason = error.get("input"), str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "json_invalid":
        return (
            400,
            f"body: expected JSON, got {error['ctx']['error']} at character {error['loc'][1]}",
        )
    _, *fields = error["loc"]
    where = ".".join(map(str, fields)) or "body"
    if where == "body" and isinstance(given, bytes | str):
        return 422, "body: expected JSON and the header Content-Type: application/json"
    shown = repr(given)
    if isinstance(given, str | int | float) and len(shown) <= _LONGEST_SHOWN:
        reason += f", got {shown}"
    return 422, f"{where}: {reason}"
