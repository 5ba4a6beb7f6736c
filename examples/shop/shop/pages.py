"""What the shop shows."""

from collections.abc import Mapping
from html import escape

PRODUCTS = {
    "tea": 450,
    "coffee": 690,
    "honey": 820,
    "jam": 390,
    "bread": 310,
    "butter": 280,
    "apples": 260,
    "pears": 340,
}
"""What each costs, in cents."""

_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem}
nav{display:flex;gap:1rem;border-bottom:1px solid #bbb;padding-bottom:.5rem}
form{display:inline}li{margin:.3rem 0}"""
_SIGN_OUT = '<form method="post" action="/sign-out"><button>Sign out</button></form>'


def page(title: str, content: str, *, login: str | None) -> str:
    who = f'<a href="/account">{escape(login)}</a> {_SIGN_OUT}' if login else '<a href="/sign-in">Sign in</a>'
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title} - Tiny shop</title><link rel="icon" href="data:,">
<style>{_STYLE}</style></head>
<body><nav><a href="/">Tiny shop</a> <a href="/cart">Cart</a> {who}</nav>
<h1>{title}</h1>{content}</body></html>"""


def price(cents: int) -> str:
    return f"{cents // 100}.{cents % 100:02}"


def total(cart: Mapping[str, int]) -> int:
    return sum(PRODUCTS[product] * quantity for product, quantity in cart.items())


def catalogue() -> str:
    items = (
        f'<li>{product}, {price(cents)} <form method="post" action="/cart">'
        f'<button name="product" value="{product}">Add {product}</button></form></li>'
        for product, cents in PRODUCTS.items()
    )
    return f"<ul>{''.join(items)}</ul>"


def cart_content(cart: Mapping[str, int]) -> str:
    if not cart:
        return "<p>Your cart is empty.</p>"
    items = "".join(f"<li>{quantity} x {product}</li>" for product, quantity in sorted(cart.items()))
    return f"""<ul>{items}</ul><p>Total: <strong>{price(total(cart))}</strong></p>
<form method="post" action="/cart/empty"><button>Empty the cart</button></form>
<form method="post" action="/orders"><button>Order</button></form>"""


def sign_in_form(message: str = "") -> str:
    return f"""<p role="alert">{escape(message)}</p><form method="post" action="/sign-in">
<p><label>E-mail <input name="login" type="email" required></label></p>
<p><label>Password <input name="password" type="password" required></label></p>
<button>Sign in</button></form>"""


THROWN_OUT = '<p role="alert">You have been signed out: somebody else signed in to this account.</p>'
