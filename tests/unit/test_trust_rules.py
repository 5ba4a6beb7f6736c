"""Trust rules: which claims they want, which rules are refused, and which run a token stands for."""

from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from pydantic import ValidationError

from botfarm.domain import trust
from botfarm.domain.access import EVERYTHING, Role
from botfarm.domain.trust import TrustRule, run_of
from botfarm.services.trust.failure_limit import FAILURES, WINDOW, FailureLimit
from botfarm.web.api.trust.trust_requests import NewTrustRule
from support.issuer import GITHUB, GITLAB

_GITHUB = {name: str(value) for name, value in GITHUB.items()}
_GITLAB = {name: str(value) for name, value in GITLAB.items() if isinstance(value, str | int)}


def rule(issuer: str = trust.GITHUB, **claims: str) -> TrustRule:
    return TrustRule(
        id=uuid4(),
        name="shop-ci",
        issuer=issuer,
        claims=claims,
        role=Role.RUNNER,
        scope=EVERYTHING,
        max_leases=None,
        max_leases_of_all=None,
        token_ttl=3_600,
        once=True,
        created_at=datetime.now(UTC),
        created_by="bootstrap",
    )


@pytest.mark.parametrize(
    ("claims", "difference"),
    [
        ({"repository_id": "7301"}, None),
        ({"repository_id": "7301", "ref": "refs/heads/*"}, None),
        (
            {"repository_id": "7301", "job_workflow_ref": "acme/shop/.github/workflows/*@refs/heads/main"},
            None,
        ),
        ({"repository_id": "7301", "repository": "Acme/SHOP"}, None),
        ({"repository_id": "7302"}, "repository_id"),
        ({"repository_id": "730"}, "repository_id"),
        ({"repository_id": "7301", "ref": "refs/heads/*/x"}, "ref"),
        ({"repository_id": "7301", "ref": "refs/tags/*"}, "ref"),
        ({"repository_id": "7301", "ref": "REFS/heads/main"}, "ref"),
        ({"repository_id": "7301", "ref": "refs.heads.main"}, "ref"),
        ({"repository_id": "7301", "environment": "*"}, "environment"),
        ({"repository_id": "7301", "ref": "*"}, None),
        ({"repository_id": "7301", "ref": "*main"}, None),
        ({"repository_id": "7301", "ref": "refs/*ds/m**n"}, None),
        ({"repository_id": "7301", "ref": "refs/heads/main*main"}, "ref"),
        ({"repository_id": "7301", "ref": "refs/*heads*s/m*"}, "ref"),
    ],
)
def test_a_rule_names_the_claim_that_differs(claims: dict[str, str], difference: str | None) -> None:
    assert rule(**claims).differs(_GITHUB) == difference


def test_no_pattern_takes_long() -> None:
    patient = rule(repository_id="7301", workflow="*a" * 250)
    assert patient.differs({**_GITHUB, "workflow": "a" * 15_000 + "b"}) == "workflow"


def test_a_run_for_a_strangers_pull_request_needs_a_rule_that_says_so() -> None:
    claims = {**_GITHUB, "event_name": "pull_request_target"}
    assert rule(repository_id="7301").differs(claims) == "event_name"
    assert rule(repository_id="7301", event_name="*").differs(claims) is None
    assert rule(repository_id="7301", event_name="pull_request_target").differs(claims) is None


def test_a_job_that_runs_for_a_fork_needs_a_rule_that_names_where_it_runs() -> None:
    forks = {**_GITLAB, "job_project_id": "21"}
    assert rule(trust.GITLAB, project_id="20").differs(_GITLAB) is None
    assert rule(trust.GITLAB, project_id="20").differs({**_GITLAB, "job_project_id": "20"}) is None
    assert rule(trust.GITLAB, project_id="20").differs(forks) == "job_project_id"
    assert rule(trust.GITLAB, project_id="20", job_project_id="21").differs(forks) is None


BODY: dict[str, Any] = {
    "name": "shop-ci",
    "issuer": trust.GITHUB,
    "claims": {"repository_id": "7301"},
    "projects": ["shop"],
    "envs": ["stage"],
}


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"claims": {"repository_owner_id": "411", "environment": "e2e"}},
        {"issuer": trust.GITLAB, "claims": {"project_id": "20"}},
        {"issuer": trust.GITLAB, "claims": {"namespace_id": "72", "ref_protected": "true"}},
        {"issuer": "https://gitlab.acme.example", "claims": {"project_id": "20"}},
        {"issuer": "https://ghes.acme.example/_services/token", "claims": {"repository_id": "1"}},
        {"issuer": "https://oidc.circleci.com/org/5", "claims": {"oidc.circleci.com/project-id": "9"}},
        {"issuer": "https://agent.buildkite.com", "claims": {"organization_id": "9"}},
        {"role": "keeper", "max_leases": 3, "max_leases_of_all": 9, "token_ttl": 43_200, "once": False},
    ],
)
def test_rules_that_are_tied_to_an_owner_are_taken(changed: dict[str, Any]) -> None:
    assert NewTrustRule.model_validate({**BODY, **changed})


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"claims": {"sub": "repo:acme/shop:ref:refs/heads/main"}}, "repository_id or repository_owner_id"),
        ({"claims": {"repository": "acme/shop", "ref": "refs/heads/main"}}, "repository_id"),
        ({"claims": {"repository_id": "*"}}, "repository_id"),
        ({"claims": {"repository_id": "73*"}}, "repository_id"),
        ({"claims": {"run_id": "88001"}}, "repository_id"),
        ({"issuer": trust.GITLAB, "claims": {"project_path": "acme/shop"}}, "namespace_id or project_id"),
        ({"issuer": "https://gitlab.acme.example", "claims": {"ref": "main"}}, "the id of a project"),
        ({"issuer": "https://gitlab.acme.example", "claims": {"job_id": "302"}}, "the id of a project"),
        ({"issuer": "https://gitlab.acme.example", "claims": {"user_id": "1"}}, "the id of a project"),
        (
            {"issuer": "https://ghes.acme.example/_services/token", "claims": {"actor_id": "1"}},
            "repository_id",
        ),
        ({"issuer": f"{trust.GITHUB}/acme", "claims": {"enterprise_id": "1"}}, "repository_id"),
        ({"issuer": "https://kubernetes.default.svc", "claims": {"sub": "x"}}, "the id of a project"),
        ({"claims": {}}, "claims"),
        ({"claims": {"repository_id": 7301}}, "claims"),
        ({"claims": {"repository_id": "7301", "aud": "x"}}, "the farm itself judges"),
        ({"claims": {"repository_id": "7301", "a b": "x"}}, "letters"),
        ({"claims": {"repository_id": ""}}, "claims"),
        ({"issuer": "http://gitlab.com"}, "https://"),
        ({"issuer": "https://"}, "https://"),
        ({"issuer": "https://a.test:99999"}, "https://"),
        ({"issuer": "https://a.test/?x=1"}, "https://"),
        ({"issuer": "https://me:pw@a.test"}, "https://"),
        ({"role": "manager"}, "runner or a keeper"),
        ({"role": "viewer"}, "runner or a keeper"),
        ({"token_ttl": 43_201}, "token_ttl"),
        ({"token_ttl": 59}, "token_ttl"),
        ({"once": "maybe"}, "once"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_rules_that_trust_too_much_are_refused(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError, match=named):
        NewTrustRule.model_validate({**BODY, **changed})


def test_a_run_of_github_is_its_attempt_and_links_to_it() -> None:
    found = run_of(_GITHUB, token_id="t", rule=rule())
    assert found is not None
    run_id, run = found
    assert run_id == "88001.1"
    assert run.owner == "github acme/shop e2e #57"
    assert run.metadata["job_url"] == "https://github.com/acme/shop/actions/runs/88001/attempts/1"
    assert run.metadata["branch"] == "main"


def test_a_run_of_an_own_github_links_to_its_own_pages() -> None:
    found = run_of(_GITHUB, token_id="t", rule=rule("https://ghes.acme.example/_services/token"))
    assert found is not None
    assert found[1].metadata["job_url"].startswith("https://ghes.acme.example/acme/shop/actions/runs/88001")


def test_a_run_of_gitlab_is_its_job_and_links_to_it() -> None:
    found = run_of(_GITLAB, token_id="t", rule=rule("https://gitlab.acme.example"))
    assert found is not None
    run_id, run = found
    assert run_id == "302"
    assert run.owner == "gitlab acme/shop #574"
    assert run.metadata["job_url"] == "https://gitlab.acme.example/acme/shop/-/jobs/302"


def test_a_run_of_another_issuer_is_its_job_or_its_subject() -> None:
    other = rule("https://ci.acme.example")
    by_subject = run_of({"sub": "team/nightly"}, token_id="t", rule=other)
    assert by_subject is not None
    assert by_subject[0] == "team/nightly"
    assert by_subject[1].owner == "ci.acme.example team/nightly team/nightly"
    by_job = run_of({"sub": "team/nightly", "job_id": "8"}, token_id="t", rule=other)
    assert by_job is not None
    assert by_job[0] == "8"


@pytest.mark.parametrize("run_id", ["", "a b", "a\nb", "ä", "x" * 201])
def test_a_run_without_a_usable_id_is_none(run_id: str) -> None:
    assert run_of({"job_id": run_id}, token_id="t", rule=rule()) is None


def test_long_and_unprintable_claims_are_cut() -> None:
    found = run_of({**_GITHUB, "workflow": "ü\n" * 500}, token_id="t", rule=rule())
    assert found is not None
    assert len(found[1].owner.encode()) <= 200
    assert "\n" not in found[1].owner
    assert len(found[1].metadata["job"].encode()) <= 500


def test_failures_beyond_the_limit_are_held_back_by_address_until_the_window_is_over() -> None:
    now = [0.0]
    limit = FailureLimit(clock=lambda: now[0])
    assert [limit.count("203.0.113.9") for _ in range(FAILURES)] == [None] * FAILURES
    now[0] = 20
    assert limit.count("203.0.113.9") == WINDOW - 20
    assert limit.count("203.0.113.10") is None
    now[0] = WINDOW
    assert limit.count("203.0.113.9") is None


def test_the_addresses_of_one_ipv6_network_share_a_limit() -> None:
    limit = FailureLimit(clock=lambda: 0.0)
    counted = [limit.count(f"2001:db8:0:1::{number:x}") for number in range(FAILURES + 1)]
    assert counted[:-1] == [None] * FAILURES
    assert counted[-1] is not None
