import threading
from collections.abc import Callable

from botfarm_client.connection.connection import Connection
from botfarm_client.errors import FarmUnreachableError, LeaseLostError
from botfarm_client.leasing.lease_clock import Hold, Renewal

Look = Callable[[], LeaseLostError | None]
"""Looks at a lease, and tells whom it may concern when it is lost."""


class Keeper:
    """One thread looks at all leases of a farm, and never waits for a network: each renewal has a thread of its own.

    There is no thread while there is nothing to keep, and none keeps the process from its end.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._holds: dict[Hold, Look] = {}
        self.begin_anew()

    def begin_anew(self) -> None:
        """In a forked process, too: what is kept is the parent's."""
        for hold in self._holds:
            hold.begin_anew()
        self._lock = threading.RLock()
        self._holds = {}
        self._looking: threading.Thread | None = None
        self._changed = threading.Event()

    def keep(self, hold: Hold, look: Look) -> None:
        with self._lock:
            self._holds[hold] = look
            if self._looking is None or not self._looking.is_alive():
                looking = threading.Thread(target=self._look_after, name="botfarm-keeper", daemon=True)
                looking.start()
                self._looking = looking
        self._changed.set()

    def forget(self, hold: Hold) -> None:
        with self._lock:
            self._holds.pop(hold, None)

    def kept(self) -> list[Hold]:
        with self._lock:
            return list(self._holds)

    def _look_after(self) -> None:
        while True:
            self._changed.clear()
            with self._lock:
                holds = dict(self._holds)
                if not holds:
                    self._looking = None
                    return
            for hold, look in holds.items():
                if look():
                    self.forget(hold)
                elif renewal := hold.due():
                    self._begin(renewal, hold, look)
            self._changed.wait(min(hold.rest() for hold in holds))

    def _begin(self, renewal: Renewal, hold: Hold, look: Look) -> None:
        renewing = threading.Thread(
            target=self._renew, args=(renewal, hold, look), name="botfarm-renewal", daemon=True
        )
        try:
            renewing.start()
        except RuntimeError as error:  # as many threads as may be, or the process is at its end
            hold.not_renewed(FarmUnreachableError(str(error)))

    def _renew(self, renewal: Renewal, hold: Hold, look: Look) -> None:
        try:
            hold.renewed(self._connection.send(renewal.call), renewal.asked_at)
        except Exception as error:  # noqa: BLE001  else it would count as under way for ever
            hold.not_renewed(error)
        look()
        self._changed.set()
