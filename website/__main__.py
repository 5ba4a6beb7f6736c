"""`python -m website --help`."""

import argparse
import subprocess
import sys
import time

from website.building import CHECKOUT, BadSiteError, build, zensical
from website.staging import Source, stage

FOLDER = CHECKOUT / ".site"


def main() -> int:
    arguments = _parser().parse_args()
    source = Source(arguments.repository or None, arguments.ref)
    if arguments.command == "serve":
        return _serve(source, arguments.address)
    started = time.monotonic()
    try:
        site = build(CHECKOUT, FOLDER, source)
    except BadSiteError as bad:
        print(bad, file=sys.stderr)
        return 1
    pages = sum(1 for _ in site.rglob("*.html"))
    print(f"{pages} pages in {site.relative_to(CHECKOUT)}, in {time.monotonic() - started:.1f} s")
    return 0


def _serve(source: Source, address: str) -> int:
    """Until Ctrl-C. A page is built again when its file changes."""
    stage(CHECKOUT, FOLDER, source)
    server = subprocess.Popen((*zensical("serve", FOLDER), "--dev-addr", address), cwd=CHECKOUT)
    try:
        while server.poll() is None:
            time.sleep(0.5)
            stage(CHECKOUT, FOLDER, source)
    except KeyboardInterrupt:
        server.terminate()
        server.wait()
        return 0
    return server.returncode


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m website", description="The site of docs/.")
    parser.add_argument("command", choices=["build", "serve"])
    parser.add_argument(
        "--repository", metavar="URL", help="what links out of docs/ lead to; else they are text"
    )
    parser.add_argument("--ref", default="main", help="the tag or branch they lead to (default: %(default)s)")
    parser.add_argument(
        "--address", default="127.0.0.1:8001", help="where `serve` listens (default: %(default)s)"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
