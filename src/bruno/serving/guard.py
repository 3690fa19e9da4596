"""What is checked of every request before it is read: host, token, rate and size."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from collections import Counter
from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any

from bruno.serving.metrics import Metrics
from bruno.serving.settings import ServerSettings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]

_LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_OPEN = ("/health",)
_BODY_SECONDS = 30
_BODIES_AT_ONCE = 4
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (
        b"content-security-policy",
        b"default-src 'self'; img-src 'self' data: blob:; frame-ancestors 'none'; "
        b"base-uri 'none'; form-action 'none'",
    ),
)


class Guard:
    """Refuses requests to other names, without the token, too many, or too large.

    A page of another site could reach a server on this machine through a name of its own that it
    lets point here, so unknown names are refused. Bodies are read whole before they are passed on,
    within a limit for each and one for all together.

    Args:
        app: The application.
        settings: Settings of the server.
        token: The token that requests must bring, if there is one.
        metrics: Where requests are counted.
    """

    def __init__(
        self, app: Application, settings: ServerSettings, token: str | None, metrics: Metrics
    ) -> None:
        self._app = app
        self._hosts = {*_LOCAL_HOSTS, *settings.allowed_hosts}
        self._token = token
        self._most = settings.max_body * 2**20
        self._held = 0
        self._max_rate = settings.max_rate
        self._second, self._in_second = 0, Counter[str]()
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter()
        status = [500]

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                status[0] = message["status"]
                message = {**message, "headers": [*message.get("headers", ()), *_HEADERS]}
            await send(message)

        try:
            await self._guarded(scope, receive, counted)
        finally:
            route = scope.get("route")
            path = getattr(route, "path", "other")
            method = scope["method"] if route is not None else "other"
            self._metrics.requests.labels(method, path, str(status[0])).inc()
            self._metrics.seconds.labels(method, path).observe(time.perf_counter() - start)

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.lower(): value for name, value in scope["headers"]}
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await refuse(send, *refusal)
            return
        declared = headers.get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._most:
            await refuse(send, *self._too_large())
            return
        held = 0
        parts: list[bytes] = []
        try:
            try:
                async with asyncio.timeout(_BODY_SECONDS):
                    more = True
                    while more:
                        message = await receive()
                        if message["type"] != "http.request":
                            return  # the client went away
                        part = message.get("body", b"")
                        parts.append(part)
                        held += len(part)
                        self._held += len(part)
                        more = message.get("more_body", False)
                        if held > self._most:
                            await refuse(send, *self._too_large())
                            return
                        if self._held > _BODIES_AT_ONCE * self._most:
                            await refuse(send, 503, "server: too many large bodies at once", 1)
                            return
            except TimeoutError:
                await refuse(send, 408, f"body: expected all of it within {_BODY_SECONDS} seconds")
                return
            body = b"".join(parts)
            parts.clear()
            await self._app(scope, _replay(body, receive), send)
        finally:
            self._held -= held

    def _refusal(
        self, scope: Scope, headers: dict[bytes, bytes]
    ) -> tuple[int, str, int | None] | None:
        host = headers.get(b"host", b"").decode("latin-1").lower()
        name = host if host.endswith("]") else host.rpartition(":")[0] or host
        if name not in self._hosts and "*" not in self._hosts:
            return 421, "Host: this server does not answer to that name (--allowed_hosts)", None
        client = scope.get("client") or ("unknown", 0)
        if not self._is_within_rate(client[0]):
            return 429, f"expected at most {self._max_rate} requests per second", 1
        if self._token is not None and not _is_open(scope["path"]):
            kind, _, token = headers.get(b"authorization", b"").partition(b" ")
            right = hmac.compare_digest(token, self._token.encode())
            if kind.lower() != b"bearer" or not right:
                return 401, "Authorization: expected the token of this server (Bearer ...)", None
        return None

    def _is_within_rate(self, client: str) -> bool:
        """Count a request of a client, and return whether it is not one too many this second."""
        second = int(time.monotonic())
        if second != self._second:
            self._second = second
            self._in_second.clear()
        self._in_second[client] += 1
        return self._in_second[client] <= self._max_rate

    def _too_large(self) -> tuple[int, str]:
        return 413, f"body: expected at most {self._most} bytes"


def _is_open(path: str) -> bool:
    """Return whether a path is answered without the token: the page, which holds no data."""
    return path == "/" or path.startswith("/static/") or path in _OPEN


async def refuse(send: Send, status: int, detail: str, retry_after: int | None = None) -> None:
    """Send a refusal as a problem (RFC 9457).

    Args:
        send: Sends messages of ASGI.
        status: HTTP status.
        detail: The reason.
        retry_after: Seconds after which it may succeed.
    """
    title = HTTPStatus(status).phrase
    body = json.dumps(
        {"type": "about:blank", "title": title, "status": status, "detail": detail}
    ).encode()
    headers = [
        (b"content-type", b"application/problem+json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if retry_after is not None:
        headers.append((b"retry-after", str(retry_after).encode()))
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if status in (408, 413):
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _replay(body: bytes, receive: Receive) -> Receive:
    """Return a source of messages that has a body already read."""
    waiting = [body]

    async def replay() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return replay
