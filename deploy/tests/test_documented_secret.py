"""The Secret of docs/operations.md, made by the page's own commands with the real kubectl (no cluster)."""

import base64
import json
import os
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from manifests import VALUES, pod_templates, render
from stages import CHECKOUT, run, tool
from support.processes import BOTFARM, clean_environment

PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
COMMANDS = re.search(
    r"^umask 077$.*?--from-file=botfarm-secret$",
    (CHECKOUT / "docs/operations.md").read_text(),
    re.MULTILINE | re.DOTALL,
)


@pytest.fixture
def secret(tmp_path: Path) -> dict[str, str]:
    """What the documented commands would send to the cluster."""
    assert COMMANDS
    script = COMMANDS[0].replace("kubectl -n", f"{tool('kubectl')} -n")
    programs = f"{Path(BOTFARM).parent}{os.pathsep}{os.environ['PATH']}"
    said = run(
        *("sh", "-euc", f"{script} --dry-run=client --output=json"),
        cwd=tmp_path,
        environment={"EDITOR": "true", "PATH": programs},
    )
    return {key: base64.b64decode(value).decode() for key, value in json.loads(said)["data"].items()}


def test_it_has_what_the_pods_mount(secret: dict[str, str]) -> None:
    mounted, optional = set(), set()
    for pod in pod_templates(render(VALUES["least"], "migrate.enabled=true")).values():
        for source in pod["spec"]["volumes"][0]["projected"]["sources"]:
            keys = {item["key"] for item in source["secret"]["items"]}
            mounted |= keys
            optional |= keys if source["secret"].get("optional") else set()
    assert mounted - optional <= set(secret) <= mounted


def test_the_commands_take_it(secret: dict[str, str], tmp_path: Path) -> None:
    for key, value in secret.items():
        (tmp_path / key).write_text(value)
    shown = json.loads(run(BOTFARM, "config", "--json", environment={"BOTFARM_SECRETS_DIR": str(tmp_path)}))
    assert {shown[key.upper()] for key in secret} == {"********"}


@pytest.mark.usefixtures("secret")
def test_its_files_are_for_nobody_else(tmp_path: Path) -> None:
    files = [tmp_path / "botfarm-secret", *(tmp_path / "botfarm-secret").iterdir()]
    assert len(files) == 5
    assert [file for file in files if file.stat().st_mode & 0o077] == []


def test_its_url_refuses_a_database_without_tls(secret: dict[str, str], database_url: str) -> None:
    options = urlsplit(secret["botfarm_database_url"].strip()).query
    refused = subprocess.run(
        [BOTFARM, "migrate"],
        env=clean_environment({"BOTFARM_DATABASE_URL": f"{database_url}?{options}"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode != 0
    assert "SSL" in refused.stderr


def test_no_page_puts_a_secret_on_a_command_line_of_kubectl_or_helm() -> None:
    assert len(PAGES) > 20
    found = {page.name: re.findall(r"--from-literal|--set\S* secret\.", page.read_text()) for page in PAGES}
    assert {name: uses for name, uses in found.items() if uses} == {}
