"""`python -m shop --accounts accounts.jsonl` makes a missing file; import the same file into the farm."""

import argparse
import socket
from pathlib import Path

import uvicorn

from shop.accounts import read_accounts, write_accounts
from shop.app import create_app


def main() -> None:
    parser = argparse.ArgumentParser(prog="shop", description="A tiny web shop to test.")
    parser.add_argument("--accounts", type=Path, required=True, help="JSON lines; made when missing")
    parser.add_argument("--make", type=int, default=12, help="how many accounts are made (12)")
    parser.add_argument("--port", type=int, default=8080, help="0 takes a free one (8080)")
    parser.add_argument("--latency", type=float, default=0, help="seconds that each page takes (0)")
    options = parser.parse_args()
    if not options.accounts.exists():
        write_accounts(options.accounts, count=options.make, env="stage", domain="regular")
    app = create_app(read_accounts(options.accounts), latency=options.latency)
    with socket.create_server(("127.0.0.1", options.port)) as listening:
        print(f"The shop is open: http://127.0.0.1:{listening.getsockname()[1]}", flush=True)  # noqa: T201
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


if __name__ == "__main__":
    main()
