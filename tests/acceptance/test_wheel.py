"""The published wheels work without the checkout: migrations and workers are inside."""

import subprocess
import sys
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from botfarm.crypto.key_ring import generate_key
from support.farm import TOKEN
from support.processes import CHECKOUT, clean_environment, running


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both distributions, built as wheels and installed without the checkout."""
    wheels, target = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("installed")
    for source in (CHECKOUT / "clients/python", CHECKOUT):
        _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(wheels), str(source))
    pip = (
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-index",
        "--target",
        str(target),
    )
    _run(*pip, *map(str, wheels.glob("*.whl")))
    return target


def test_a_wheel_outside_the_checkout_migrates_works_and_serves(
    installed: Path, empty_database: str, tmp_path: Path
) -> None:
    environment = {
        "PYTHONPATH": str(installed),
        "BOTFARM_DATABASE_URL": empty_database,
        "BOTFARM_ENCRYPTION_KEYS": generate_key("k1"),
        "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
        "BOTFARM_PORT": "0",
        "BOTFARM_WORKER_PORT": "0",
    }
    where = (
        "import botfarm, botfarm_client, workers;"
        "print(*(package.__file__ for package in (botfarm, botfarm_client, workers)))"
    )
    found = _run(sys.executable, "-c", where, cwd=tmp_path, environment=environment)
    assert all(path.startswith(str(installed)) for path in found.split())
    botfarm = (sys.executable, "-c", "from botfarm_client.cli import main; main()")
    assert "up to date" in _run(*botfarm, "migrate", cwd=tmp_path, environment=environment)
    with running(*botfarm, "worker", environment=environment, cwd=tmp_path) as worker:
        worker.wait_for('"event": "working"')
    with running(sys.executable, "-m", "workers", environment=environment, cwd=tmp_path) as worker:
        worker.wait_for('"event": "working"')
        worker.terminate()
        assert worker.wait() == 0
    with running(*botfarm, "serve", environment=environment, cwd=tmp_path) as api:
        api.wait_for('"event": "ready"')


def _run(*command: str, cwd: Path = CHECKOUT, environment: dict[str, str] | None = None) -> str:
    finished = subprocess.run(
        command,
        cwd=cwd,
        env=clean_environment(environment or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_the_client_alone_brings_little_and_is_small(installed: Path) -> None:
    """Packages that pip would install into an empty environment, by the ones that are installed here."""
    environment = {"python_version": "3.11", "extra": "", **default_environment()}
    brought, asked = set[str](), ["botfarm-client"]
    while asked:
        name = canonicalize_name(asked.pop())
        if name not in brought:
            brought.add(name)
            needed = [Requirement(each) for each in distribution(name).requires or []]
            asked += [each.name for each in needed if not each.marker or each.marker.evaluate(environment)]
    light = {
        "httpx",
        "typer",
        "typing-extensions",
        "rich",
        "pygments",
        "anyio",
        "certifi",
        "idna",
        "h11",
        "httpcore",
        "pyyaml",
    }
    light |= {"shellingham", "click", "markdown-it-py", "mdurl", "sniffio", "annotated-doc", "botfarm-client"}
    assert brought <= light
    sizes = [_size(distribution(name)) for name in brought - {"botfarm-client"}]
    ours = sum(
        file.stat().st_size
        for file in (installed / "botfarm_client").rglob("*")
        if file.suffix != ".pyc" and file.is_file()
    )
    assert sum(sizes) + ours < 15_000_000


def _size(installed: Distribution) -> int:
    """Without what Python compiles."""
    files = [Path(str(file.locate())) for file in installed.files or [] if file.suffix != ".pyc"]
    return sum(file.stat().st_size for file in files if file.exists())
