"""A farm file as it is written: what YAML makes of it, what is wrong with it and in which line."""

import json
from pathlib import Path

import pytest

from botfarm_client.commands.configuration.farm_file import FarmFile, read_farm_file
from botfarm_client.commands.configuration.file_errors import FarmFileError
from botfarm_client.commands.configuration.login_ranges import RangeError, expanded

CHECKOUT = Path(__file__).parents[2]
EXAMPLE, GUIDE = CHECKOUT / "examples/farm.yaml", CHECKOUT / "docs/as-code.md"
HEAD = "name: team\nprojects:\n  shop:\n    users:\n"
USER = HEAD + "      - login: anna@shop.test\n        env: stage\n"


def read(text: str | bytes, folder: Path = Path()) -> FarmFile:
    return read_farm_file(text.encode() if isinstance(text, str) else text, folder)


def errors(text: str | bytes) -> list[str]:
    with pytest.raises(FarmFileError) as found:
        read(text)
    return [error.written("farm.yaml") for error in found.value.errors]


def test_the_example_is_a_farm() -> None:
    file = read(EXAMPLE.read_bytes(), EXAMPLE.parent)
    shop, (ci, keeper) = file.body["projects"][0], file.body["tokens"]
    assert [user["login"] for user in shop["users"]][18:21] == [
        "regular-19@shop.test", "regular-20@shop.test", "premium@shop.test",
    ]  # fmt: skip
    assert shop["policy"]["default_ttl"] == 900
    assert shop["users"][0]["labels"] == {"plan": "free", "language": "fr"}
    assert (ci["name"], ci["max_leases"], keeper["envs"]) == ("shop-ci", 20, ["*"])
    (rule,) = file.body["trust_rules"]
    assert (rule["name"], rule["issuer"]) == ("shop-github", "https://token.actions.githubusercontent.com")
    assert rule["claims"] == {"repository_id": "7301", "ref": "refs/heads/main"}
    assert "password" not in json.dumps(file.body)


def test_the_guide_shows_the_whole_example() -> None:
    _, _, shown = GUIDE.read_text().partition("```yaml\n")
    _, _, example = EXAMPLE.read_text().partition("\n\n")
    assert shown.partition("```")[0] == example


@pytest.mark.parametrize(
    ("login", "first_and_last", "count"),
    [
        ("anna@shop.test", ("anna@shop.test", "anna@shop.test"), 1),
        ("u{1..20}", ("u1", "u20"), 20),
        ("u{01..20}", ("u01", "u20"), 20),
        ("u{000..9}", ("u000", "u009"), 10),
        ("u{8..12}x", ("u8x", "u12x"), 5),
        ("u{1..2}-{01..03}", ("u1-01", "u2-03"), 6),
        ("u{7..7}", ("u7", "u7"), 1),
        ("u{1}", ("u{1}", "u{1}"), 1),
    ],
)
def test_a_range_stands_for_its_logins(login: str, first_and_last: tuple[str, str], count: int) -> None:
    logins = expanded(login)
    assert ((logins[0], logins[-1]), len(set(logins))) == (first_and_last, count)


@pytest.mark.parametrize(
    "login", ["u{2..1}", "u{a..z}", "u{1..}", "u{..}", "u{1..20000}", "u{1..999}{1..999}"]
)
def test_a_range_that_cannot_be_meant_is_refused(login: str) -> None:
    with pytest.raises(RangeError):
        expanded(login)


@pytest.mark.parametrize(
    ("written", "value"),
    [("no", "no"), ("1.10", "1.10"), ("007", "007"), ("'~'", "~"), ("1e3", "1e3"), ("2026-11-29", "2026-11-29"),
     ("12:30", "12:30"), ("+49 170 123", "+49 170 123"), ("'with: colon'", "with: colon")],
)  # fmt: skip
def test_a_text_is_read_as_it_is_written(written: str, value: str) -> None:
    file = read(f"{USER}        labels: {{key: {written}}}\n")
    assert file.body["projects"][0]["users"][0]["labels"] == {"key": value}


@pytest.mark.parametrize("login", ["4917012345", "+49 170 123", "0x1F", "on"])
def test_a_login_is_the_text_that_is_written(login: str) -> None:
    file = read(f"{HEAD}      - login: {login}\n        env: stage\n")
    assert file.body["projects"][0]["users"][0]["login"] == login


def test_an_alias_repeats_what_its_anchor_has() -> None:
    file = read(
        f"{USER}        labels: &paid {{plan: paid}}\n      - {{login: b@c.de, env: prod, labels: *paid}}\n"
    )
    assert [user["labels"] for user in file.body["projects"][0]["users"]] == [{"plan": "paid"}] * 2


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "farm.yaml:1: is empty"),
        ("# nothing\n", "farm.yaml:1: is empty"),
        ("projects: {}\n", "farm.yaml:1: name: is missing"),
        ("- a\n", "farm.yaml:1: must be a map of keys and values"),
        ("name:\n", "farm.yaml:1: name: has no value: leave the key out, or put the text into quotes"),
        ("name: a\nname: b\n", "farm.yaml:2: name: is there twice, first in line 1"),
        ("name: a\nproject: {}\n", "farm.yaml:2: project: there is no such key: did you mean projects?"),
        ("name: a\nx: {}\n", "farm.yaml:2: x: there is no such key; there are name, projects, tokens, trust_rules"),
        (
            USER + "        pasword: {env: A}\n",
            "farm.yaml:7: projects.shop.users[0].pasword: there is no such key: did you mean password?",
        ),
        (
            USER + "        password: hunter2\n",
            (
                "farm.yaml:7: projects.shop.users[0].password: must be a map of keys and values "
                "(A secret of a new user: {env: NAME} or {file: PATH})"
            ),
        ),
        (
            USER + "        password: {env: A, file: b}\n",
            "farm.yaml:7: projects.shop.users[0].password: must be {env: NAME} or {file: PATH}",
        ),
        (USER + "        labels: {a: [b]}\n", "farm.yaml:7: projects.shop.users[0].labels.a: must be text"),
        (USER + "        login: x\n", "farm.yaml:7: projects.shop.users[0].login: is there twice, first in line 5"),
        (HEAD + "      - env: stage\n", "farm.yaml:5: projects.shop.users[0].login: is missing"),
        (
            HEAD + '      - {login: "u{3..1}@shop.test", env: stage}\n',
            "farm.yaml:5: projects.shop.users[0].login: a range counts up: {1..20}",
        ),
        (HEAD + "\t- login: a\n", "farm.yaml:5: is indented by a tab: YAML wants spaces"),
        ("name: a\n\tprojects: {}\n", "farm.yaml:2: is indented by a tab: YAML wants spaces"),
        ("name: @a\n", None),
        ("name: 'a\n", None),
        ("name: a\x07\n", None),
        (b"name: a\n# \xff\n", "farm.yaml:2: is not UTF-8 text"),
        ("name: !!python/object:os.system a\n", "farm.yaml:1: name: tags (!...) are not read"),
        ("name: *a\n", None),
        ("name: a\n--- \nname: b\n", "farm.yaml:3: is a second document: a file has one"),
        ("? [a]\n: b\n", "farm.yaml:1: a key must be text"),
        ("[" * 100_000, "farm.yaml:1: " + "[0]" * 20 + ": is nested too deep"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_line(text: str | bytes, error: str | None) -> None:
    found = errors(text)
    assert len(found) == 1
    assert "hunter2" not in found[0]
    if error is not None:
        assert found == [error]
    else:
        assert found[0].startswith("farm.yaml:")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("default_ttl: 15", None),
        ("default_ttl: 1h30m", None),
        ("default_ttl: soon", "must be a duration, such as 90, 90s, 15m, 2h, 1h30m or 90d"),
        ("default_ttl: 2d", "must be at most 86400"),
        ("default_ttl: 99999999999999999999", "must be a duration, such as 90, 90s, 15m, 2h, 1h30m or 90d"),
        ("quarantine_after: 3", None),
        ("quarantine_after: '3'", "must be a whole number"),
        ("quarantine_after: 1_000", "must be a whole number"),
        ("quarantine_after: 0x10", "must be a whole number"),
        ("quarantine_after: 1:30", "must be a whole number"),
        ("quarantine_after: 99999999999999999999", "must be a whole number"),
        ("quarantine_share: 0.5", None),
        ("quarantine_share: .inf", "must be a number"),
        ("quarantine_share: 2", "must be at most 1"),
        ("count_expired: true", None),
        ("count_expired: yes", "must be true or false"),
        ("cleaning: off", None),
        ("cleaning: sometimes", "must be one of off, on_dirty, required"),
    ],
)
def test_a_setting_has_its_type_and_bounds(setting: str, message: str | None) -> None:
    text = f"name: a\nprojects:\n  shop:\n    policy:\n      {setting}\n"
    if message is None:
        read(text)
    else:
        name = setting.partition(":")[0]
        assert errors(text) == [f"farm.yaml:5: projects.shop.policy.{name}: {message}"]


def test_a_bomb_of_aliases_does_not_go_off() -> None:
    lines = ["name: a", "projects:", "  a: &a {users: [x, x, x, x, x, x, x, x, x, x]}"]
    lines = ["name: &n0 [a, a, a, a, a, a, a, a, a, a]"]
    lines += [f"x{level}: &n{level} [{', '.join([f'*n{level - 1}'] * 10)}]" for level in range(1, 10)]
    assert any("no such key" in error for error in errors("\n".join(lines)))
    users = ", ".join(["*u"] * 1_000)
    bomb = f"name: a\nprojects:\n  p0: &p\n    users: [&u {{login: a, env: stage}}, {users}]\n"
    bomb += "".join(f"  p{number}: *p\n" for number in range(1, 1_000))
    assert any("is too much" in error for error in errors(bomb))


def test_all_errors_of_a_file_are_named_at_once() -> None:
    text = HEAD + "".join(f"      - {{login: u{number}@shop.test, en: stage}}\n" for number in range(3))
    assert [error.split(": ")[:2] for error in errors(text)] == [
        [f"farm.yaml:{5 + number}", f"projects.shop.users[{number}]{field}"]
        for number in range(3)
        for field in (".en", ".env")
    ]


def test_an_error_of_the_farm_is_at_the_line_of_the_file() -> None:
    file = read(
        HEAD + '      - {login: a@b.de, env: stage}\n      - login: "u{1..3}@b.de"\n        env: stage\n'
    )
    assert file.error("projects.0.users.3.env", "unknown").written("f") == (
        "f:7: projects.shop.users[1].env: u3@b.de: unknown"
    )
    assert (
        file.error("projects.0.policy.max_ttl", "bad").written("f")
        == "f:3: projects.shop.policy.max_ttl: bad"
    )
    assert file.error("projects.0.name", "taken").written("f") == "f:3: projects.shop: taken"
    assert file.error("name", "bad").written("f") == "f:1: name: bad"


def test_seeds_are_read_beside_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (
        USER
        + "        password: {env: SEED}\n        secrets: {file: s.json}\n        totp_seed: {file: seed}\n"
    )
    file, place = read(text, tmp_path), "projects.0.users.0"
    with pytest.raises(FarmFileError) as found:
        file.with_seeds([place])
    assert [error.written("f").partition(": cannot")[0] for error in found.value.errors] == [
        "f:7: projects.shop.users[0].password: the variable SEED is not set",
        "f:8: projects.shop.users[0].secrets",
        "f:9: projects.shop.users[0].totp_seed",
    ]
    monkeypatch.setenv("SEED", " blank ")
    tmp_path.joinpath("s.json").write_text('{"pin": 1}')
    tmp_path.joinpath("seed").write_text("JBSWY3DPEHPK3PXP\n")
    user = file.with_seeds([place])["projects"][0]["users"][0]
    assert (user["password"], user["secrets"], user["totp_seed"]) == (
        " blank ",
        {"pin": 1},
        "JBSWY3DPEHPK3PXP",
    )
    assert "password" not in file.body["projects"][0]["users"][0]
    tmp_path.joinpath("s.json").write_text("hunter2")
    with pytest.raises(FarmFileError) as found:
        file.with_seeds([place])
    assert "hunter2" not in found.value.errors[0].message
