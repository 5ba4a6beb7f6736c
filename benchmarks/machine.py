"""Describes the machine of the run, and reads from /proc what its processes use."""

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from benchmarks.tools import Tools

_TICKS = os.sysconf("SC_CLK_TCK")
_LIBRARIES = (
    "botfarm",
    "fastapi",
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "pydantic",
    "sqlalchemy",
    "asyncpg",
)


def describe_machine(folder: Path) -> dict[str, object]:
    release = platform.release().split(".")
    cpus = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    memory = re.search(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())
    return {
        "cpu": cpus[0] if cpus else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(int(memory[1]) / 1024**2) if memory else None,
        "system": f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Linux {'.'.join(release[:2])}",
        "file_system": _file_system(folder),
    }


def describe_versions(tools: Tools, postgres_version: str) -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "postgresql": postgres_version,
        "pgbench": _version_of(tools.pgbench),
        "wrk": _version_of(tools.wrk),
        **{library: version(library) for library in _LIBRARIES},
    }


def _version_of(program: str) -> str:
    """The first number of the output. wrk prints its version with its usage and exits with an error."""
    run = subprocess.run([program, "--version"], check=False, capture_output=True, text=True)
    found = re.search(r"\d[\w.+-]*", run.stdout + run.stderr)
    return found[0] if found else ""


def _file_system(folder: Path) -> str:
    """The type of the file system that holds the database, because the cost of fsync depends on it."""
    mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
    holding = [(point, kind) for point, kind in mounts if folder.is_relative_to(point)]
    return max(holding, key=lambda mount: len(mount[0]))[1]


def resident_mb(pid: int) -> float:
    found = re.search(r"VmRSS:\s*(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def cpu_seconds(pid: int) -> float:
    """User and system time of one process, in seconds."""
    return sum(_times(pid)[:2])


def tree_cpu_seconds(pid: int) -> float:
    """CPU seconds of a process, its live children, and its children that have ended."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return sum(_times(pid)) + sum(_times_or_nothing(int(child)) for child in children)


def context_switches(pid: int) -> int:
    """Of all threads of one process, voluntary or not."""
    statuses = (path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/status"))
    return sum(int(count) for status in statuses for count in re.findall(r"ctxt_switches:\s*(\d+)", status))


def _times_or_nothing(pid: int) -> float:
    try:
        return sum(_times(pid)[:2])
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def _times(pid: int) -> tuple[float, ...]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return tuple(int(field) / _TICKS for field in fields[11:15])
