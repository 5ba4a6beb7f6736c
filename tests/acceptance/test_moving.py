"""docs/moving.md, section by section: what it says to type is run by a shell on a real farm."""

import json
import os
import re
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.live_farm import Json, LiveFarm, live_farm
from support.processes import BOTFARM, CHECKOUT, clean_environment

PAGE = (CHECKOUT / "docs/moving.md").read_text()
SECTIONS = dict(re.findall(r"^(?:# Moving in|## ([^\n]+))\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))
JENKINS = {
    "resources": [
        {
            "name": "alice@shop.test",
            "labels": "account paid",
            "properties": [{"name": "PASSWORD", "value": 'it\'s "quoted"'}, {"name": "PIN", "value": "1234"}],
        },
        {"name": "printer", "labels": "hardware", "properties": []},
    ]
}
BOSKOS = {
    "items": [
        {
            "spec": {"type": "shop-account"},
            "status": {"state": "free", "userData": {"login": "bob@shop.test", "password": "pw", "pin": "1"}},
        },
        {"spec": {"type": "gcp-project"}, "status": {"state": "dirty"}},
    ]
}
# Stand-ins for what answers a request for the old place's resources, and for a suite.
CURL = f"""#!/bin/sh -e
case "$*" in *"-u me:secret"*"https://jenkins.test/lockable-resources/api/json?tree="*) ;; *) exit 22 ;; esac
while [ "$1" != -o ]; do shift; done
cat >"$2" <<'END'
{json.dumps(JENKINS)}
END
"""
KUBECTL = f"""#!/bin/sh -e
[ "$*" = "get resources.boskos.k8s.io --namespace boskos --output json" ]
cat <<'END'
{json.dumps(BOSKOS)}
END
"""
SUITE = '#!/bin/sh\necho "$BOTFARM_LOGIN $BOTFARM_PASSWORD" >>signed-in\n'


@pytest.fixture
def farm(postgres_url: str, template: str) -> Iterator[LiveFarm]:
    with live_farm(postgres_url, template) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    programs = tmp_path / "programs"
    programs.mkdir()
    for path, text in (
        (programs / "curl", CURL),
        (programs / "kubectl", KUBECTL),
        (programs / "npx", '#!/bin/sh\necho "$E2E_LOGIN $E2E_PASSWORD" >>signed-in\n'),
        (tmp_path / "e2e.sh", SUITE),
    ):
        path.write_text(text)
        path.chmod(stat.S_IRWXU)
    return tmp_path


def blocks(section: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", SECTIONS[section], re.MULTILINE | re.DOTALL)


def typed(farm: LiveFarm, folder: Path, script: str) -> str:
    """What is printed. Each command has to succeed."""
    programs = os.pathsep.join((str(folder / "programs"), str(Path(BOTFARM).parent), os.environ["PATH"]))
    jenkins = {"JENKINS_URL": "https://jenkins.test", "JENKINS_USER": "me", "JENKINS_API_TOKEN": "secret"}
    finished = subprocess.run(
        ("sh", "-ec", script),
        cwd=folder,
        env=clean_environment({**farm.environment, **jenkins, "PATH": programs}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout + finished.stderr


def type_section(farm: LiveFarm, folder: Path, section: str) -> str:
    """After what every section needs: the project, and a token for tests."""
    return "".join(typed(farm, folder, script) for script in (*blocks("", "sh"), *blocks(section, "sh")))


def users(farm: LiveFarm) -> dict[str, Json]:
    return {user["login"]: user for user in farm.get("/users")["items"]}


def taken(farm: LiveFarm, **wanted: object) -> Json:
    """The user that a test gets."""
    return dict(farm.take("shop", **wanted)["users"][0])


def test_each_section_says_what_changes_for_tests_and_how_to_go_back() -> None:
    moves = [section for section in SECTIONS if section.startswith("From")]
    assert len(moves) == 4
    assert [section for section in moves if "**Tests**" not in SECTIONS[section]] == []
    assert [section for section in moves if "**Back:**" not in SECTIONS[section]] == []


def test_from_jenkins(farm: LiveFarm, folder: Path) -> None:
    printed = type_section(farm, folder, "From Jenkins' lockable resources")
    assert "Created 1 user" in printed
    assert users(farm)["alice@shop.test"]["labels"] == {"account": "yes", "paid": "yes"}
    user = taken(farm, labels={"account": "yes"})
    assert (user["password"], user["secrets"]) == ('it\'s "quoted"', {"PIN": "1234"})
    assert not (folder / "accounts.jsonl").exists()


def test_the_step_of_the_jenkinsfile(farm: LiveFarm, folder: Path) -> None:
    type_section(farm, folder, "From Jenkins' lockable resources")
    step = re.findall(r"sh '''(.*?)'''", SECTIONS["From Jenkins' lockable resources"], re.DOTALL)[0]
    token = (folder / "tests.token").read_text().strip()
    typed(farm, folder, f"export BOTFARM_TOKEN='{token}'\n{step}")
    assert (folder / "signed-in").read_text() == 'alice@shop.test it\'s "quoted"\n'


def test_from_boskos(farm: LiveFarm, folder: Path) -> None:
    printed = type_section(farm, folder, "From boskos")
    assert "Created 1 user" in printed
    assert (folder / "signed-in").read_text() == "bob@shop.test pw\n"
    assert users(farm)["bob@shop.test"]["state"] == "dirty", "a keeper comes after every test"
    assert users(farm)["bob@shop.test"]["labels"] == {"type": "shop-account"}


def test_from_a_users_json(farm: LiveFarm, folder: Path) -> None:
    (folder / "users.json").write_text(blocks("From a `users.json`", "json")[0])
    type_section(farm, folder, "From a `users.json`")
    assert {login: user["labels"] for login, user in users(farm).items()} == {
        "admin@shop.test": {"role": "admin"},
        "buyer@shop.test": {"role": "buyer"},
    }
    assert taken(farm, labels={"role": "admin"})["password"] == "correct horse"
    assert not (folder / "accounts.jsonl").exists()


def test_from_a_spreadsheet(farm: LiveFarm, folder: Path) -> None:
    (folder / "accounts.csv").write_text(blocks("From a spreadsheet", "csv")[0])
    printed = type_section(farm, folder, "From a spreadsheet")
    assert "Created 2 users" in printed
    assert "Used by" in printed
    assert users(farm)["bob@shop.test"]["labels"] == {"team": "red", "plan": "trial"}
    assert taken(farm, labels={"plan": "paid"})["password"] == "correct horse"


def test_the_farm_may_be_a_file_from_then_on(farm: LiveFarm, folder: Path) -> None:
    (folder / "users.json").write_text(blocks("From a `users.json`", "json")[0])
    type_section(farm, folder, "From a `users.json`")
    for script in blocks("Keeping them as a file", "sh"):
        typed(farm, folder, script)
    assert "admin@shop.test" in (folder / "farm.yaml").read_text()
    assert "correct horse" not in (folder / "farm.yaml").read_text()


def test_accounts_that_were_taken_out_go_into_another_farm(farm: LiveFarm, folder: Path) -> None:
    (folder / "users.json").write_text(blocks("From a `users.json`", "json")[0])
    type_section(farm, folder, "From a `users.json`")
    for script in blocks("Taking accounts out", "sh"):
        typed(farm, folder, script)
    assert {user["state"] for user in users(farm).values()} == {"retired"}
    exported = folder / "taken-out.csv"
    assert stat.S_IMODE(exported.stat().st_mode) == stat.S_IRUSR | stat.S_IWUSR
    typed(farm, folder, "botfarm users bulk delete --project shop --yes; botfarm users import taken-out.csv")
    assert taken(farm, labels={"role": "admin"})["password"] == "correct horse"
