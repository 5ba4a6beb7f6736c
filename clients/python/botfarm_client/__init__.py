"""The client of botfarm: the command line, and the HTTP connection under it."""

__version__ = "0.1.0"
