"""The site of docs/, built by Zensical: `python -m website build`, or `make docs`."""
