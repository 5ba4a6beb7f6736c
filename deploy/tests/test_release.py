"""The distributions of `python -m build` install and run without the checkout; all parts have one version."""

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml

import botfarm
import botfarm_client
from stages import CHECKOUT, DEPLOY, run
from support.farm import KEYS, TOKEN
from support.postgres import two_roles
from support.processes import running

WORKFLOWS = sorted((CHECKOUT / ".github/workflows").glob("*.yml"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of both sdists, and of the wheels that were made out of these."""
    folder = tmp_path_factory.mktemp("dist")
    for source in (CHECKOUT / "clients/python", CHECKOUT):
        build = (sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source))
        run(*build, seconds=120)
    return folder


def environment_with(folder: Path, wheels: list[Path], requirements: str) -> Path:
    """A new virtual environment; gives its programs."""
    run(sys.executable, "-m", "venv", str(folder / "venv"), seconds=60)
    pip = (str(folder / "venv/bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "install", "--require-hashes", "-r", str(CHECKOUT / requirements), seconds=300)
    run(*pip, "install", "--no-index", "--no-deps", *map(str, wheels), seconds=60)
    run(*pip, "check")
    return folder / "venv/bin"


@pytest.mark.timeout(600)
def test_the_server_runs_outside_the_checkout(built: Path, database_url: str, tmp_path: Path) -> None:
    programs = environment_with(tmp_path, sorted(built.glob("*.whl")), "requirements/server.txt")
    command = str(programs / "botfarm")
    environment = {
        **two_roles(database_url),
        "BOTFARM_ENCRYPTION_KEYS": KEYS,
        "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
        "BOTFARM_PORT": "0",
        "BOTFARM_WORKER_PORT": "0",
    }
    assert "up to date" in run(command, "migrate", cwd=tmp_path, environment=environment)
    with running(command, "worker", environment=environment, cwd=tmp_path) as worker:
        worker.wait_for('"event": "ready"')
    with running(command, "serve", environment=environment, cwd=tmp_path) as api:
        api.wait_for('"event": "ready"')


@pytest.mark.timeout(600)
def test_the_client_needs_nothing_of_the_server(built: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", str(tmp_path / "venv"), seconds=60)
    (wheel,) = built.glob("botfarm_client-*.whl")
    pins = tmp_path / "pins.txt"
    pins.write_text(
        "\n".join(re.findall(r"^\S+==\S+", (CHECKOUT / "requirements/server.txt").read_text(), re.MULTILINE))
    )
    pip = (str(tmp_path / "venv/bin/python"), "-m", "pip", "--quiet", "--disable-pip-version-check")
    run(*pip, "install", "--constraint", str(pins), str(wheel), seconds=300)
    said = run(str(tmp_path / "venv/bin/botfarm"), "--help", cwd=tmp_path)
    assert "leases" in said
    assert "serve" not in said


def test_the_sdist_has_what_the_wheel_is_made_of_and_no_secret(built: Path) -> None:
    (sdist,) = built.glob("botfarm-*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "pyproject.toml",
        "migrations/env.py",
        "workers/process.py",
        "botfarm/settings.py",
        "LICENSE",
    } <= names
    assert ".env" not in names


def test_there_is_one_version() -> None:
    chart = yaml.safe_load((DEPLOY / "helm/botfarm/Chart.yaml").read_text())
    required = re.search(r'"botfarm-client==(.*)"', (CHECKOUT / "pyproject.toml").read_text())
    assert required
    versions = {
        botfarm.__version__,
        botfarm_client.__version__,
        required[1],
        chart["version"],
        chart["appVersion"],
    }
    assert len(versions) == 1


def test_set_version_changes_all_of_them(tmp_path: Path) -> None:
    files = (
        "botfarm/__init__.py",
        "clients/python/botfarm_client/__init__.py",
        "pyproject.toml",
        "deploy/helm/botfarm/Chart.yaml",
        "deploy/set-version.sh",
    )
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text((CHECKOUT / file).read_text())
    run("sh", str(tmp_path / "deploy/set-version.sh"), "9.8.7")
    changed = [(tmp_path / file).read_text().count("9.8.7") for file in files]
    assert changed == [1, 1, 1, 2, 0]
    wrong = subprocess.run(
        ["sh", str(tmp_path / "deploy/set-version.sh"), "v1"], capture_output=True, check=False
    )
    assert wrong.returncode == 2


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=[path.stem for path in WORKFLOWS])
def test_actions_are_pinned_and_may_do_little(workflow: Path) -> None:
    actions = re.findall(r"uses: (.*)", workflow.read_text())
    assert actions
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}  # v\d+(\.\d+)*", action) for action in actions)
    assert yaml.safe_load(workflow.read_text())["permissions"] == {"contents": "read"}


def test_nothing_is_published_before_everything_is_tested_and_packages_only_before_their_site() -> None:
    jobs = yaml.safe_load((CHECKOUT / ".github/workflows/release.yml").read_text())["jobs"]
    assert {name: job.get("needs") for name, job in jobs.items()} == {
        "build": None,
        "image": "build",
        "packages": ["build", "image"],
        "site": ["build", "packages"],
    }
    steps = jobs["build"]["steps"]
    assert "IMAGE_REGISTRY" in steps[0]["run"], "said within seconds"
    tested = {name for step in steps for name in step.get("run", "").removeprefix("make ").split()}
    assert {"test", "check", "test-ops"} <= tested


def test_each_command_of_a_workflow_that_is_ours_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), flags=re.MULTILINE))
    asked = {
        name
        for path in WORKFLOWS
        for names in re.findall(r"run: make (.*)", path.read_text())
        for name in names.split()
    }
    assert asked
    assert asked <= targets
