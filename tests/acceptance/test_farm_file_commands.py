"""`botfarm plan`, `apply` and `export` as people and CI use them, against a real `botfarm serve`."""

import json
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from botfarm.crypto.key_ring import generate_key
from support.farm import TOKEN
from support.postgres import fresh_database, two_roles
from support.processes import run_botfarm, running_botfarm

FILE = """\
name: NAME-team
projects:
  NAME:
    policy: {cooldown: 5s}
    users:
      - login: regular-{01..03}@shop.test
        env: stage
        password: {env: SEED}
        labels: {plan: free}
      - login: premium@shop.test
        env: stage
        password: {file: premium.txt}
"""
TOKENS = """\
tokens:
  NAME-ci: {role: runner, projects: [NAME], envs: [stage]}
"""
RULES = """\
trust_rules:
  NAME-github:
    issuer: github
    claims: {repository_id: 7301}
    projects: [NAME]
    envs: [stage]
    token_ttl: 30m
"""
SEED, PREMIUM = "a-seed-3f1c", "a-seed-77ab"


@dataclass(frozen=True)
class Ended:
    exit_code: int
    out: str
    err: str


@dataclass(frozen=True)
class Team:
    """A folder with a farm file, of a project of the team's own."""

    name: str
    folder: Path
    environment: dict[str, str]

    @property
    def path(self) -> Path:
        return self.folder / "farm.yaml"

    def write(self, text: str) -> None:
        self.path.write_text(text.replace("NAME", self.name))

    def __call__(self, *arguments: str, **environment: str) -> Ended:
        done = run_botfarm(*arguments, environment={**self.environment, **environment})
        said = (done.stdout + done.stderr).replace(str(self.path), "farm.yaml").replace(self.name, "NAME")
        for unwanted in ("Traceback", SEED, PREMIUM):
            assert unwanted not in said
        out, err = (
            text.replace(str(self.path), "farm.yaml").replace(self.name, "NAME")
            for text in (done.stdout, done.stderr)
        )
        return Ended(done.returncode, out, err)

    def plan(self, *options: str, **environment: str) -> Ended:
        return self("plan", str(self.path), *options, **environment)

    def apply(self, *options: str, **environment: str) -> Ended:
        return self("apply", str(self.path), "--yes", *options, **environment)

    def ask(self, path: str, token: str = TOKEN) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.get(f"{self.environment['BOTFARM_URL']}/api/v1{path}", headers=headers)

    def users(self) -> dict[str, dict[str, Any]]:
        projects = {each["name"]: each["id"] for each in self.ask("/projects").json()["items"]}
        items = self.ask(f"/users?project_id={projects[self.name]}").json()["items"]
        return {user["login"]: user for user in items}


@pytest.fixture(scope="module")
def farm_url(postgres_url: str, template: str) -> Iterator[str]:
    with fresh_database(postgres_url, template=template) as database_url:
        environment = {
            **two_roles(database_url),
            "BOTFARM_ENCRYPTION_KEYS": generate_key("k1"),
            "BOTFARM_BOOTSTRAP_TOKEN": TOKEN,
            "BOTFARM_PORT": "0",
        }
        with running_botfarm("serve", environment=environment) as api:
            yield api.url()


@pytest.fixture
def team(farm_url: str, tmp_path: Path) -> Team:
    tmp_path.joinpath("premium.txt").write_text(f"{PREMIUM}\n")
    environment = {"BOTFARM_URL": farm_url, "BOTFARM_TOKEN": TOKEN, "SEED": SEED}
    opened = Team(f"p{uuid4().hex[:8]}", tmp_path, environment)
    opened.write(FILE)
    return opened


def test_a_farm_becomes_as_its_file_says_and_follows_it(team: Team) -> None:
    planned = team.plan(SEED="")
    assert (planned.exit_code, planned.err) == (2, "")
    assert planned.out.splitlines() == [
        "+ project NAME: cooldown 5",
        *(
            f"+ user regular-0{number}@shop.test (NAME/stage): domain regular, labels.plan free"
            for number in (1, 2, 3)
        ),
        "+ user premium@shop.test (NAME/stage): domain regular",
        "To make 5.",
    ]
    applied = team.apply()
    assert (applied.exit_code, applied.out.splitlines()[-1]) == (0, "Done: 5 changes.")
    assert {user["managed_by"] for user in team.users().values()} == {f"{team.name}-team"}
    again = team.plan()
    assert (again.exit_code, again.out, again.err) == (0, "Nothing to do.\n", "")

    team.write(FILE.replace("cooldown: 5s", "cooldown: 1m").replace("plan: free", "plan: paid"))
    planned = team.plan()
    assert (planned.exit_code, planned.out.splitlines()) == (
        2,
        [
            "~ project NAME: cooldown 5 -> 60",
            *(
                f"~ user regular-0{number}@shop.test (NAME/stage): labels.plan free -> paid"
                for number in (1, 2, 3)
            ),
            "To change 4.",
        ],
    )
    assert team.apply(SEED="").exit_code == 0  # needs no seed

    team.write(FILE.replace("01..03", "01..02").replace("cooldown: 5s", ""))
    kept = team.plan()
    assert (kept.exit_code, kept.out.splitlines()[-1]) == (2, "To change 2.")
    assert "kept: user regular-03@shop.test; --prune retires users" in kept.err
    pruned = team.apply("--prune")
    assert "- user regular-03@shop.test (NAME/stage): retired" in pruned.out
    assert team.users()["regular-03@shop.test"]["state"] == "retired"


def test_the_first_password_is_that_of_the_seed(team: Team) -> None:
    team.apply()
    (premium,) = (user for login, user in team.users().items() if login == "premium@shop.test")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = f"{team.environment['BOTFARM_URL']}/api/v1/users/{premium['id']}/acquire_lock"
    assert httpx.post(url, headers=headers).json()["users"][0]["password"] == PREMIUM


def test_a_new_token_is_written_to_a_folder_and_shown_nowhere(team: Team) -> None:
    team.write(FILE + TOKENS)
    refused = team.apply()
    assert (refused.exit_code, refused.err) == (
        1,
        "botfarm: to make the token NAME-ci say --tokens-to DIR: it is written there and shown nowhere else\n",
    )
    folder = team.folder / "tokens"
    applied = team.apply("--tokens-to", str(folder), "--json")
    path = folder / f"{team.name}-ci"
    token = path.read_text().strip()
    assert (stat.S_IMODE(path.stat().st_mode), applied.exit_code) == (0o600, 0)
    assert token not in applied.out + applied.err
    assert json.loads(applied.out)["tokens"][0]["name"] == "NAME-ci"
    assert team.ask("/pools", token).status_code == 200


def test_errors_name_their_line_and_end_with_1(team: Team) -> None:
    team.write(FILE.replace("premium@shop.test", "premium"))
    refused = team.plan()
    assert (refused.exit_code, refused.out) == (1, "")
    assert refused.err.splitlines() == [
        "farm.yaml:10: projects.NAME.users[1].login: must be an e-mail address (logins: email)",
        "botfarm: 1 error in farm.yaml; nothing was changed",
    ]
    team.write(FILE.replace("labels", "lables"))
    misspelt = "farm.yaml:9: projects.NAME.users[0].lables: there is no such key: did you mean labels?"
    assert team.plan().err.splitlines()[0] == misspelt
    team.write(FILE.replace("        password: {file: premium.txt}\n", ""))
    missing = "farm.yaml:10: projects.NAME.users[1].password: is missing, and this user is new"
    assert team.plan().err.splitlines()[0] == missing
    team.write(FILE)
    unset = team.apply(SEED="")
    assert (unset.exit_code, unset.err.splitlines()[0]) == (
        1,
        "farm.yaml:8: projects.NAME.users[0].password: the variable SEED is empty",
    )
    assert team.plan("--nonsense").exit_code == 1
    assert team("plan").exit_code == 1
    assert team("plan", "nowhere.yaml").exit_code == 1
    assert team.plan(BOTFARM_URL="http://127.0.0.1:1").exit_code == 1
    assert team.plan(BOTFARM_URL="nonsense").exit_code == 1
    assert team.plan(BOTFARM_TOKEN="wrong").exit_code == 1
    assert team("apply", str(team.path)).exit_code == 2  # nobody is there to say yes
    assert team.ask(f"/users?search={team.name}").json()["items"] == []


def test_one_bad_user_among_a_thousand_is_named_and_nothing_is_done(team: Team) -> None:
    logins = [f"user-{number}@shop.test" for number in range(1_000)]
    logins[700] = "nobody"
    users = [f"      - {{login: {login}, env: stage, password: {{env: SEED}}}}" for login in logins]
    team.write("\n".join(["name: NAME-team", "projects:", "  NAME:", "    users:", *users]))
    refused = team.apply()
    assert (refused.exit_code, refused.out, refused.err.splitlines()) == (
        1,
        "",
        [
            "farm.yaml:705: projects.NAME.users[700].login: must be an e-mail address (logins: email)",
            "botfarm: 1 error in farm.yaml; nothing was changed",
        ],
    )
    assert team.name not in team.ask("/projects").text


def test_trust_rules_follow_the_file(team: Team) -> None:
    team.write(FILE + RULES)
    team.apply()
    assert team.plan().out == "Nothing to do.\n"
    team.write(FILE + RULES.replace("7301}", "7301, ref: main}").replace("30m", "1h"))
    assert team.plan().out.splitlines() == [
        "~ trust rule NAME-github: replaced; its runs keep their leases, claims.ref main, token_ttl 1800 -> 3600",
        "To change 1.",
    ]
    team.write(FILE + RULES.replace("repository_id: 7301", "sub: 'repo:acme/shop'"))
    needed = "must have repository_id or repository_owner_id, without *: names change hands"
    assert team.apply("--prune").err.splitlines() == [
        f"farm.yaml:16: trust_rules.NAME-github.claims: {needed}",
        "botfarm: 1 error in farm.yaml; nothing was changed",
    ]
    team.write(FILE)
    assert "kept: trust rule NAME-github; --prune" in team.plan().err
    assert "- trust rule NAME-github: revoked" in team.apply("--prune").out
    assert f"{team.name}-github" not in team.ask("/trust-rules").text


def test_an_export_is_a_file_that_changes_nothing(team: Team) -> None:
    team.write(FILE + TOKENS + RULES)
    team.apply("--tokens-to", str(team.folder / "tokens"))
    exported = team("export", "--as-config")
    assert exported.exit_code == 0
    assert "cooldown: 5s" in exported.out
    assert "token_ttl: 30m" in exported.out
    team.write(exported.out)
    again = team.plan()
    assert (again.exit_code, again.out) == (0, "Nothing to do.\n")
    adopted = team.apply("--adopt")
    assert adopted.exit_code == 0
    team.write(exported.out.replace("cooldown: 5s", "cooldown: 6s"))
    assert team.plan().exit_code == 2

    assert json.loads(team("export", "--schema").out)["title"] == "botfarm: the farm as a file"
    assert team("export").exit_code == 2
