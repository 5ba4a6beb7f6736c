"""Connections that wait for their next request.

A connection that a request has taken is not here any more, so nothing can close it but that request. httpcore's pool
keeps all connections in one list and closes those that have expired or are too many, among them some that were just
given to a request that has not begun.
"""

import threading
from collections import deque
from typing import Generic, Protocol, TypeVar

from botfarm_client.shared import clock

# Seconds. Shorter than farms (75) and the usual proxies (60) keep an idle connection, so that we end it first.
LONGEST_IDLE = 5.0
MOST_IDLE = 20


class _Connection(Protocol):
    def has_expired(self) -> bool: ...


ConnectionT = TypeVar("ConnectionT", bound=_Connection)


class IdleConnections(Generic[ConnectionT]):
    """For several threads. Closes nothing itself: stale connections are returned, for the caller to close."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_closed = False
        self._waiting: deque[tuple[ConnectionT, float]] = deque()
        """With the time since when; the one used last is at the right."""

    def take(self) -> tuple[ConnectionT | None, list[ConnectionT]]:
        """The connection that was used last; or, where the other side has closed it or may do so, all as stale."""
        with self._lock:
            if self._waiting:
                connection, since = self._waiting[-1]
                if clock.now() - since <= LONGEST_IDLE and not connection.has_expired():
                    self._waiting.pop()
                    return connection, []
            return None, self._empty()

    def put(self, connection: ConnectionT) -> list[ConnectionT]:
        """Gives the stale ones."""
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
        """In a forked process, where a thread that is not here may hold the lock. Gives the parent's connections."""
        self._lock = threading.Lock()
        return self._empty()

    def close(self) -> list[ConnectionT]:
        """From now on every connection is stale. Gives those that wait here."""
        with self._lock:
            self._is_closed = True
            return self._empty()

    def _empty(self) -> list[ConnectionT]:
        waiting = [connection for connection, _ in self._waiting]
        self._waiting.clear()
        return waiting
