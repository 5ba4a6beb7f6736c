import pytest

from botfarm.domain.access import Role
from botfarm.group_roles import ROLES, parse_group_roles, role_of
from botfarm.settings import SettingsError, load_settings

MAPPING = parse_group_roles("qa-leads = manager:shop/* ; a=b=viewer:shop,web/stage,prod; *=viewer")


def test_roles_are_those_of_the_farm() -> None:
    assert list(Role) == list(ROLES)


def test_entries_say_group_role_projects_and_envs() -> None:
    leads, odd, everybody = MAPPING
    assert (leads.group, leads.role, leads.projects, leads.envs) == ("qa-leads", "manager", ("shop",), None)
    assert (odd.group, odd.projects, odd.envs) == ("a=b", ("shop", "web"), ("stage", "prod"))
    assert (everybody.role, everybody.projects, everybody.envs) == ("viewer", None, None)


def test_the_first_entry_that_fits_counts() -> None:
    assert role_of({"qa-leads", "a=b"}, MAPPING) is MAPPING[0]
    assert role_of({"others"}, MAPPING) is MAPPING[2]
    assert role_of({"others"}, MAPPING[:2]) is None


@pytest.mark.parametrize(
    "text",
    [
        "secret-group",
        "=viewer",
        "g=",
        "g=root",
        "g=viewer:shop",
        "g=viewer:/stage",
        "g=viewer:shop/",
        "g=viewer:a b/*",
        "g=viewer:shop/Prod",
        "g=viewer:shop/stage,,prod",
    ],
)
def test_a_wrong_entry_is_named_by_its_number(text: str) -> None:
    with pytest.raises(ValueError, match="entry 2") as caught:
        parse_group_roles(f"*=viewer; {text}")
    assert "secret-group" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "line"),
    [
        (
            {"oidc_issuer": "http://login.acme.example"},
            "BOTFARM_OIDC_ISSUER: must begin with https://",
        ),
        ({"public_url": "botfarm.acme.example"}, "BOTFARM_PUBLIC_URL: must be https://host"),
        ({"public_url": "http://botfarm.acme.example"}, "BOTFARM_PUBLIC_URL"),
        ({"public_url": "https://botfarm.acme.example/?x=1"}, "BOTFARM_PUBLIC_URL"),
        (
            {"public_url": None},
            "BOTFARM_OIDC_ROLES: single sign-on needs BOTFARM_PUBLIC_URL, too",
        ),
        ({"oidc_client_id": None}, "single sign-on needs BOTFARM_OIDC_CLIENT_ID, too"),
        ({"oidc_roles": ""}, "BOTFARM_OIDC_ROLES: without a role nobody can sign in"),
        ({"oidc_scopes": "email groups"}, "BOTFARM_OIDC_ROLES: without `openid` in"),
        ({"oidc_roles": "x=boss"}, "BOTFARM_OIDC_ROLES: entry 1 has no role of viewer, runner"),
        ({"oidc_keys_dir": "/nowhere"}, "BOTFARM_OIDC_KEYS_DIR: there is no such folder"),
    ],
)
def test_bad_settings_are_refused_with_one_line(wrong: dict[str, object], line: str) -> None:
    right = {
        "public_url": "https://botfarm.acme.example",
        "oidc_issuer": "https://login.acme.example",
        "oidc_client_id": "botfarm",
        "oidc_roles": "*=viewer",
    }
    assert load_settings(**right).public_url == "https://botfarm.acme.example"
    with pytest.raises(SettingsError) as caught:
        load_settings(**{**right, **wrong})
    assert line in str(caught.value)
