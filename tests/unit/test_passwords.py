import asyncio
from collections.abc import Iterator

import pytest
from passlib.context import CryptContext

from botfarm.errors import SlowDownError
from botfarm.services.access.passwords import MAX_WAITING, THREADS, Passwords

PASSWORD = "correct horse battery staple"


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    opened = Passwords()
    yield opened
    opened.close()


async def test_a_hash_is_argon2id_at_the_owasp_floor_and_verifies_its_password_only(
    passwords: Passwords,
) -> None:
    hashed = await passwords.hash(PASSWORD)
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.verify_and_update(PASSWORD, hashed) == (True, None)
    assert await passwords.verify_and_update("another", hashed) == (False, None)


async def test_a_hash_of_other_parameters_is_replaced_when_the_password_is_right(
    passwords: Passwords,
) -> None:
    old = CryptContext(["argon2"], argon2__type="ID", argon2__memory_cost=1_024, argon2__time_cost=1)
    hashed = old.hash(PASSWORD)
    assert await passwords.verify_and_update("another", hashed) == (False, None)
    right, updated = await passwords.verify_and_update(PASSWORD, hashed)
    assert right
    assert updated is not None
    assert await passwords.verify_and_update(PASSWORD, updated) == (True, None)


async def test_a_password_of_no_operator_is_never_right(passwords: Passwords) -> None:
    for password in ("", PASSWORD):
        assert await passwords.verify_and_update(password, None) == (False, None)


async def test_a_crowd_is_told_to_come_back(passwords: Passwords) -> None:
    crowd = [passwords.verify_and_update(PASSWORD, None) for _ in range(THREADS + MAX_WAITING + 3)]
    answers = await asyncio.gather(*crowd, return_exceptions=True)
    refused = [answer for answer in answers if isinstance(answer, SlowDownError)]
    assert len(refused) == 3
    assert refused[0].details == {"retry_after": 1}
    assert await passwords.verify_and_update(PASSWORD, None) == (False, None), "and then there is room again"
