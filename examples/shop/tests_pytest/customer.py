"""What a customer does in the shop, and sees."""

import re

import httpx

PRICES = {
    "tea": 450,
    "coffee": 690,
    "honey": 820,
    "jam": 390,
    "bread": 310,
    "butter": 280,
    "apples": 260,
    "pears": 340,
}


class Customer:
    def __init__(self, http: httpx.Client, login: str, password: str) -> None:
        self._http = http
        self._login = login
        self._password = password

    def sign_in(self) -> None:
        page = self._post("/sign-in", login=self._login, password=self._password)
        assert self._login in page

    def sign_out(self) -> None:
        assert "Sign in" in self._post("/sign-out")

    def cart(self) -> dict[str, int]:
        return _lines(self._see(self._http.get("/cart")))

    def add(self, product: str, quantity: int = 1) -> None:
        for _ in range(quantity):
            assert product in _lines(self._post("/cart", product=product))

    def empty_cart(self) -> None:
        assert "Your cart is empty" in self._post("/cart/empty")

    def order(self) -> int:
        """What it costs, in cents."""
        found = re.search(r"Order \d+ of (\d+)\.(\d\d) is on its way", self._post("/orders"))
        assert found, "the shop confirms the order"
        return int(found[1] + found[2])

    def _post(self, path: str, **form: str) -> str:
        return self._see(self._http.post(path, data=form))

    def _see(self, answer: httpx.Response) -> str:
        alert = re.search(r'role="alert">([^<]+)<', answer.text)
        assert answer.is_success, alert[1] if alert else f"the shop answers {answer.status_code}"
        return answer.text


def _lines(page: str) -> dict[str, int]:
    return {product: int(quantity) for quantity, product in re.findall(r"<li>(\d+) x (\w+)</li>", page)}
