"""`python -m workers` is `botfarm worker`."""

from botfarm_client.cli import main

main(["worker"])
