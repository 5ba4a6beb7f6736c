"""`python -m shop --accounts accounts.jsonl` makes a missing file; import the same file into the farm.

SHOP_SUPPORT_KEY opens the support desk, which sets the password of an account, and opens the account where there is
none.
"""

import argparse
import os
import socket
from pathlib import Path

import uvicorn

from shop.accounts import Accounts, read_accounts, write_accounts
from shop.app import create_app


def main() -> None:
    parser = argparse.ArgumentParser(prog="shop", description="A tiny web shop to test.")
    parser.add_argument("--accounts", type=Path, help="JSON lines; made when missing (none)")
    parser.add_argument("--make", type=int, default=12, help="how many accounts are made (12)")
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen at (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one (8080)")
    parser.add_argument("--latency", type=float, default=0, help="seconds that each page takes (0)")
    options = parser.parse_args()
    support_key = os.environ.get("SHOP_SUPPORT_KEY", "")
    app = create_app(
        _accounts(options.accounts, options.make), support_key=support_key, latency=options.latency
    )
    with socket.create_server((options.host, options.port)) as listening:
        print(f"The shop is open: http://{options.host}:{listening.getsockname()[1]}", flush=True)  # noqa: T201
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


def _accounts(file: Path | None, count: int) -> Accounts:
    if file is None:
        return Accounts([])
    if not file.exists():
        write_accounts(file, count=count, env="stage", domain="regular")
    return read_accounts(file)


if __name__ == "__main__":
    main()
