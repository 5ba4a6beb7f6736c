"""The process's limit of open files; each connection is an open file."""

import contextlib

# Connections to the database (at most 200), listening sockets, logs, libraries that are loaded late.
FILES_BESIDE_CONNECTIONS = 256


def raise_file_limit() -> None:
    """Raises the soft limit, which is often 1,024, to the hard one."""
    import resource  # noqa: PLC0415  not on Windows, where `botfarm --help` shall work

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS allows less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def connections_within(wanted: int) -> int:
    """The number of connections that is wanted, or fewer if the limit of open files is lower."""
    import resource  # noqa: PLC0415

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return wanted
    return min(wanted, max(soft - FILES_BESIDE_CONNECTIONS, soft // 2))
