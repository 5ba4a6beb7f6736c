"""The shop's customers: who may sign in, one session for each account, and one cart."""

import json
import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Account:
    login: str
    password: str = field(repr=False)
    cart: Counter[str] = field(default_factory=Counter)


@dataclass
class Session:
    account: Account
    is_thrown_out: bool = False
    has_been_told: bool = False


class Accounts:
    def __init__(self, accounts: Iterable[Account]) -> None:
        self._accounts = {account.login: account for account in accounts}
        self._sessions: dict[str, Session] = {}
        self._current: dict[str, str] = {}
        self.sign_ins = 0
        self.orders = 0

    @property
    def thrown_out(self) -> int:
        """Sessions that somebody was still using when another sign-in ended them."""
        return sum(session.has_been_told for session in self._sessions.values())

    def sign_in(self, login: str, password: str) -> str | None:
        """The key of a new session, which ends the account's former one; None when the password is wrong."""
        account = self._accounts.get(login)
        if account is None or not secrets.compare_digest(account.password.encode(), password.encode()):
            return None
        if former := self._current.get(login):
            self._sessions[former].is_thrown_out = True
        key = secrets.token_urlsafe(24)
        self._sessions[key], self._current[login] = Session(account), key
        self.sign_ins += 1
        return key

    def session(self, key: str | None) -> Session | None:
        session = self._sessions.get(key or "")
        if session and session.is_thrown_out:
            session.has_been_told = True
        return session

    def set_password(self, login: str, password: str) -> None:
        """As the support desk does it: opens the account where there is none, and keeps cart and session."""
        self._accounts.setdefault(login, Account(login, password)).password = password

    def sign_out(self, key: str | None) -> None:
        session = self._sessions.get(key or "")
        if session and key and not session.is_thrown_out:
            del self._sessions[key], self._current[session.account.login]


def write_accounts(path: Path, *, count: int, env: str, domain: str) -> None:
    """JSON lines with passwords just made up, as `botfarm users import` reads them too."""
    path.touch(mode=0o600)
    with path.open("w") as file:
        for number in range(1, count + 1):
            account = {"login": f"customer-{number}@shop.test", "password": secrets.token_urlsafe(12)}
            file.write(json.dumps({**account, "env": env, "domain": domain}) + "\n")


def read_accounts(path: Path) -> Accounts:
    users = [json.loads(line) for line in path.read_text().splitlines()]
    return Accounts(Account(user["login"], user["password"]) for user in users)
