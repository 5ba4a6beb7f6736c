"""Two hundred tests, each of a customer alone in a shop."""

from itertools import permutations

import pytest
from customer import PRICES, Customer

products = pytest.mark.parametrize("product", PRICES)
quantities = pytest.mark.parametrize("quantity", range(1, 6))


@products
@quantities
def test_what_is_added_is_in_the_cart(customer: Customer, product: str, quantity: int) -> None:
    customer.add(product, quantity)
    assert customer.cart() == {product: quantity}


@products
@quantities
def test_an_emptied_cart_is_empty(customer: Customer, product: str, quantity: int) -> None:
    customer.add(product, quantity)
    customer.empty_cart()
    assert customer.cart() == {}


@products
@quantities
def test_an_order_costs_what_is_in_the_cart(customer: Customer, product: str, quantity: int) -> None:
    customer.add(product, quantity)
    assert customer.order() == PRICES[product] * quantity
    assert customer.cart() == {}


@pytest.mark.parametrize(("one", "other"), list(permutations(PRICES, 2)))
def test_two_products_do_not_get_in_the_way_of_each_other(customer: Customer, one: str, other: str) -> None:
    customer.add(one)
    customer.add(other)
    assert customer.cart() == {one: 1, other: 1}
    assert customer.order() == PRICES[one] + PRICES[other]


@products
@pytest.mark.parametrize("quantity", range(1, 4))
def test_a_cart_is_kept_over_a_sign_out(customer: Customer, product: str, quantity: int) -> None:
    customer.add(product, quantity)
    customer.sign_out()
    customer.sign_in()
    assert customer.cart() == {product: quantity}
