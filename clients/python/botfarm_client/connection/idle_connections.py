"""Idle connections, to be reused by the next request.

A connection leaves this list when a request takes it, so only that request can close it. httpcore's pool
keeps all connections in one list and closes expired and surplus ones, even if a request was just given one
and has not begun.
"""

import threading
from collections import deque
from typing import Generic, Protocol, TypeVar

from botfarm_client.shared import clock

# Seconds. Farms keep an idle connection for 75, common proxies for 60: the client closes it first.
LONGEST_IDLE = 5.0
MOST_IDLE = 20


class _Connection(Protocol):
    def has_expired(self) -> bool: ...


ConnectionT = TypeVar("ConnectionT", bound=_Connection)


class IdleConnections(Generic[ConnectionT]):
    """Thread-safe. Closes nothing itself: it returns stale connections, which the caller closes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_closed = False
        self._waiting: deque[tuple[ConnectionT, float]] = deque()
        """With the time since which each is idle. The one used last is at the right."""

    def take(self) -> tuple[ConnectionT | None, list[ConnectionT]]:
        """The connection that was used last, or None and all connections as stale if that one has expired."""
        with self._lock:
            if self._waiting:
                connection, since = self._waiting[-1]
                if clock.now() - since <= LONGEST_IDLE and not connection.has_expired():
                    self._waiting.pop()
                    return connection, []
            return None, self._empty()

    def put(self, connection: ConnectionT) -> list[ConnectionT]:
        """Returns the connections that are stale."""
        stale: list[ConnectionT] = []
        with self._lock:
            if self._is_closed:
                return [connection]
            now = clock.now()
            self._waiting.append((connection, now))
            while len(self._waiting) > MOST_IDLE or now - self._waiting[0][1] > LONGEST_IDLE:
                stale.append(self._waiting.popleft()[0])
        return stale

    def begin_anew(self) -> list[ConnectionT]:
        """Starts empty in a forked process, with a new lock: a thread of the parent may hold the old one.

        Returns the parent's connections.
        """
        self._lock = threading.Lock()
        return self._empty()

    def close(self) -> list[ConnectionT]:
        """Makes every further connection stale. Returns the idle ones."""
        with self._lock:
            self._is_closed = True
            return self._empty()

    def _empty(self) -> list[ConnectionT]:
        waiting = [connection for connection, _ in self._waiting]
        self._waiting.clear()
        return waiting
