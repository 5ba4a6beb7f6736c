"""`python -m keeper` keeps the users of one pool of the farm fit for tests of the shop.

BOTFARM_URL, BOTFARM_TOKEN (of the role keeper), BOTFARM_PROJECT and BOTFARM_ENV say which. SHOP_URL is the shop, and
SHOP_SUPPORT_KEY the key of its support desk, if the keeper is to mend passwords that a test has changed and not said.
"""

import argparse
import logging
import os
import signal
import sys

import httpx

from botfarm_client import Botfarm, Chore
from keeper.storefront import RejectedError, Storefront

logger = logging.getLogger("keeper")


def main() -> None:
    parser = argparse.ArgumentParser(prog="keeper", description="Keeps users of the shop fit for tests.")
    parser.add_argument("--once", action="store_true", help="end when nothing is due, instead of waiting")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    for number in (signal.SIGINT, signal.SIGTERM):  # an exception, so that the chore under way is released
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    shop_url = os.environ.get("SHOP_URL", "http://127.0.0.1:8080")
    support_key = os.environ.get("SHOP_SUPPORT_KEY", "")
    with Botfarm() as farm:
        for chore in farm.chores(forever=not options.once):
            with Storefront(shop_url, support_key=support_key) as shop:
                keep(chore, shop)


def keep(chore: Chore, shop: Storefront) -> None:
    """Does what is due. A chore that is not marked ends as `ok`."""
    due = ", ".join(chore.due)
    try:
        do(chore, shop)
    except RejectedError:
        chore.mark("broken", reason="credential_rejected", note="the shop rejects the password")
    except httpx.HTTPError as error:  # away, or out of order: this says nothing of the user
        chore.mark("broken", reason="environment", note=f"the shop: {type(error).__name__}")
    logger.info("%s (%s): %s", chore.user.login, due, chore.verdict.reason or "ok")


def do(chore: Chore, shop: Storefront) -> None:
    user, password_before = chore.user, chore.user.password
    enter(chore, shop)  # this is the check
    if "clean" in chore.due:
        shop.empty_cart()
    if "rotate" in chore.due and user.password == password_before:
        shop.change_password(chore.lease.start_rotation())
        chore.lease.confirm_rotation()
    if "session" in chore.due or "storage_state" in user.secrets:  # signing in has ended the kept session
        state, expires_at = shop.session()
        chore.lease.write_back(secrets={"storage_state": state}, session_expires_at=expires_at)


def enter(chore: Chore, shop: Storefront) -> None:
    """Signs in, with either password where an earlier keeper did not get to confirm a new one."""
    user = chore.user
    pending = user.pending_password
    if pending and shop.accepts(user.login, pending):
        chore.lease.confirm_rotation()
    elif shop.accepts(user.login, user.password):
        if pending:
            shop.change_password(pending)
            chore.lease.confirm_rotation()
    elif shop.has_support:
        password = chore.lease.start_rotation()  # again the pending one, if there is one
        shop.ask_support_for_password(user.login, password)
        chore.lease.confirm_rotation()
        shop.sign_in(user.login, password)
    else:
        raise RejectedError


if __name__ == "__main__":
    main()
