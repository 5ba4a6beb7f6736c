"""Two ways to an account: one of the farm's, or the one that everybody uses."""

import os
from collections.abc import Iterator

import httpx
import pytest
from customer import Customer


@pytest.fixture
def account(request: pytest.FixtureRequest) -> tuple[str, str]:
    """From the farm, one for each test. With SHOP_LOGIN, as without a farm, all tests share one account."""
    if login := os.environ.get("SHOP_LOGIN"):
        return login, os.environ["SHOP_PASSWORD"]
    user = request.getfixturevalue("botfarm_user")
    return user.login, user.password


@pytest.fixture
def customer(account: tuple[str, str]) -> Iterator[Customer]:
    """Signed in, with an empty cart."""
    url = os.environ.get("SHOP_URL", "http://127.0.0.1:8080")
    with httpx.Client(base_url=url, follow_redirects=True, timeout=30, trust_env=False) as http:
        customer = Customer(http, *account)
        customer.sign_in()
        customer.empty_cart()
        yield customer
        customer.sign_out()
