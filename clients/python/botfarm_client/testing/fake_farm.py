from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from typing import Self
from uuid import uuid4

from botfarm_client.connection.api_calls import API
from botfarm_client.leasing.async_farm import AsyncBotfarm
from botfarm_client.leasing.farm import Botfarm
from botfarm_client.shared import clock
from botfarm_client.testing.fake_api import Answered, Asked, FakeApi, answered_problem
from botfarm_client.testing.fake_leasing import FakeLeasing
from botfarm_client.testing.fake_policy import FakePolicy
from botfarm_client.testing.fake_stock import FakeStock
from botfarm_client.testing.fake_transport import FakeTransport, NotAnsweredError, serving
from botfarm_client.testing.fake_users import FakeLease, FakeProblem, FakeUser

TOKEN = "a-token-of-the-fake-farm"  # noqa: S105  not a real secret


class FakeFarm:
    """A farm in memory with one project and the given users. It follows the rules of a real farm.

    A context manager, for the socket behind `url`; without that it needs no end.
    """

    def __init__(
        self,
        users: Iterable[FakeUser] | None = None,
        *,
        project: str = "shop",
        env: str = "stage",
        domain: str = "regular",
        policy: FakePolicy = FakePolicy(),  # noqa: B008  frozen
        max_leases: int | None = None,
    ) -> None:
        """Without `users` there is one.

        `env` is what clients take that name none; `domain` the project's first, which an acquire means that
        names none; `max_leases` the quota, in users.
        """
        self.token = TOKEN
        self.project = project
        self.project_id = str(uuid4())
        self.env = env
        chosen = [FakeUser("user@fake.test", env=env, domain=domain)] if users is None else list(users)
        self._stock = FakeStock(chosen, policy, default_domain=domain)
        self._leasing = FakeLeasing(self._stock, max_leases=max_leases)
        self._api = FakeApi(
            self._stock, self._leasing, token=TOKEN, project=project, project_id=self.project_id
        )
        self._failures: list[str] = []
        self.on_answer: Callable[[str], object] | None = None
        """Called with `POST /leases` and the like, when a request was carried out and not yet answered."""
        self._stack = ExitStack()
        self._url: str | None = None
        self.transport = FakeTransport(self._answer)
        """A transport for `Botfarm`, `AsyncBotfarm`, `httpx.Client` and `httpx.AsyncClient`."""

    def botfarm(self) -> Botfarm:
        return Botfarm(
            "http://fake.test", self.token, project=self.project, env=self.env, transport=self.transport
        )

    def async_botfarm(self) -> AsyncBotfarm:
        return AsyncBotfarm(
            "http://fake.test", self.token, project=self.project, env=self.env, transport=self.transport
        )

    @property
    def url(self) -> str:
        """The URL of a local socket, which listens from the first use on."""
        if self._url is None:
            self._url = self._stack.enter_context(serving(self._answer))
        return self._url

    @property
    def environment(self) -> Mapping[str, str]:
        """Variables for the pytest plugin, `botfarm exec` and other processes."""
        return {
            "BOTFARM_URL": self.url,
            "BOTFARM_TOKEN": self.token,
            "BOTFARM_PROJECT": self.project,
            "BOTFARM_ENV": self.env,
        }

    @property
    def users(self) -> list[FakeUser]:
        """The users, the next one to be leased first."""
        return list(self._stock.users)

    @property
    def leases(self) -> list[FakeLease]:
        """All leases, also ended ones, the oldest first."""
        return list(self._stock.leases)

    @property
    def waiting(self) -> int:
        """The number of requests that wait for users."""
        return self._leasing.waiting

    def advance(self, seconds: float) -> None:
        """Moves the time of the farm and of every client in this process by `seconds`, as a sleep would."""
        clock.advance(seconds)

    def expire(self, lease_id: str) -> None:
        """Ends the lease without telling its holder."""
        self._leasing.expire(lease_id)

    def force_release(self, lease_id: str) -> None:
        """Ends the lease as an operator does."""
        self._leasing.force(lease_id)

    def fail_next(self, how: str, times: int = 1) -> None:
        """Makes the next requests fail with a problem, named by its slug.

        Or they are `refused`, as where nobody listens; or `lost`: what they ask for is done, and no
        answer arrives.
        """
        self._failures += [how] * times

    def close(self) -> None:
        self._stack.close()
        self._url = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _answer(self, asked: Asked) -> Answered:
        failure = self._failures.pop(0) if self._failures else None
        if failure == "refused":
            raise NotAnsweredError(refused=True)
        if failure not in {None, "lost"}:
            return answered_problem(FakeProblem(str(failure)))
        answered = self._api.answer(asked)
        if self.on_answer:
            self.on_answer(f"{asked.method} {asked.path.removeprefix(API)}")
        if failure == "lost":
            raise NotAnsweredError(refused=False)
        return answered
