"""What the holder of a lease of a fake farm may change: credentials, and a password in two phases."""

import secrets
import string
from collections.abc import Mapping
from typing import Any

from botfarm_client.shared import clock
from botfarm_client.testing.fake_health import trust_again
from botfarm_client.testing.fake_stock import FakeStock
from botfarm_client.testing.fake_users import FakeProblem, FakeUser


class FakeCredentials:
    def __init__(self, stock: FakeStock) -> None:
        self._stock = stock

    def write_back(self, lease_id: str, user_id: str, body: Mapping[str, Any]) -> FakeUser:
        with self._stock.lock:
            user = self._stock.user_of(lease_id, user_id)
            if body.get("password"):
                user.password = body["password"]
                trust_again(user)
            merged = {**user.secrets, **body.get("secrets", {})}
            user.secrets = {name: value for name, value in merged.items() if value is not None}
            user.session_expires_at = body.get("session_expires_at", user.session_expires_at)
            return user

    def start_rotation(self, lease_id: str, user_id: str, password: str | None) -> str:
        with self._stock.lock:
            user = self._stock.user_of(lease_id, user_id)
            if user.pending_password is None:
                user.pending_password = password or _generated()
                if user.status == "active":
                    user.set_status("dirty")
            elif password not in {None, user.pending_password}:
                raise FakeProblem("rotation-pending")
            return user.pending_password

    def confirm_rotation(self, lease_id: str, user_id: str) -> FakeUser:
        with self._stock.lock:
            user = self._stock.user_of(lease_id, user_id)
            if user.pending_password is not None:
                user.password = user.pending_password
                user.rotated_at, user.must_rotate = clock.now(), False
                trust_again(user)
            elif user.rotated_at is None or user.rotated_at < self._stock.live_lease(lease_id).acquired_at:
                raise FakeProblem("no-rotation")
            return user


def _generated() -> str:
    return "".join(secrets.choice(string.ascii_letters + string.digits) for _ in range(21)) + "aA7"
