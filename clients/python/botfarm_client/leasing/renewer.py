"""Renews a lease in a thread. `lease_clock.py` says when, makes the request and judges the answer."""

import threading
from collections.abc import Callable

from botfarm_client.connection.connection import Connection
from botfarm_client.errors import FarmUnreachableError, LeaseLostError
from botfarm_client.leasing.lease_clock import LeaseClock, Renewal

Look = Callable[[], LeaseLostError | None]
"""Checks a lease, and calls its callbacks if it is lost. Returns the loss."""


class Renewer:
    """Renews leases in threads.

    One thread checks all leases of a farm and never waits for the network, because each renewal has a
    thread of its own. Without leases there is no thread. All are daemon threads, so the process can end.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._clocks: dict[LeaseClock, Look] = {}
        self.begin_anew()

    def begin_anew(self) -> None:
        """Starts empty: at first, and in a forked process, whose leases belong to the parent."""
        for lease_clock in self._clocks:
            lease_clock.begin_anew()
        self._lock = threading.RLock()
        self._clocks = {}
        self._watcher: threading.Thread | None = None
        self._changed = threading.Event()

    def add(self, lease_clock: LeaseClock, look: Look) -> None:
        with self._lock:
            self._clocks[lease_clock] = look
            if self._watcher is None or not self._watcher.is_alive():
                watcher = threading.Thread(target=self._watch, name="botfarm-renewer", daemon=True)
                watcher.start()
                self._watcher = watcher
        self._changed.set()

    def remove(self, lease_clock: LeaseClock) -> None:
        with self._lock:
            self._clocks.pop(lease_clock, None)

    def lease_clocks(self) -> list[LeaseClock]:
        with self._lock:
            return list(self._clocks)

    def _watch(self) -> None:
        while True:
            self._changed.clear()
            with self._lock:
                lease_clocks = dict(self._clocks)
                if not lease_clocks:
                    self._watcher = None
                    return
            for lease_clock, look in lease_clocks.items():
                if look():
                    self.remove(lease_clock)
                elif renewal := lease_clock.due():
                    self._begin(renewal, lease_clock, look)
            self._changed.wait(min(lease_clock.rest() for lease_clock in lease_clocks))

    def _begin(self, renewal: Renewal, lease_clock: LeaseClock, look: Look) -> None:
        renewing = threading.Thread(
            target=self._renew, args=(renewal, lease_clock, look), name="botfarm-renewal", daemon=True
        )
        try:
            renewing.start()
        except RuntimeError as error:  # no more threads are allowed, or the process is ending
            lease_clock.not_renewed(FarmUnreachableError(str(error)))

    def _renew(self, renewal: Renewal, lease_clock: LeaseClock, look: Look) -> None:
        try:
            lease_clock.renewed(self._connection.send(renewal.call), renewal.asked_at)
        except Exception as error:  # noqa: BLE001  else it would stay in flight for ever
            lease_clock.not_renewed(error)
        look()
        self._changed.set()
