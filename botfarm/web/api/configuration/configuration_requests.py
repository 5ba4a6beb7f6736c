"""Bodies that come in about a whole farm, as a file wants it."""

from typing import Annotated

from pydantic import Field, StringConstraints

from botfarm.domain.configuration import WantedFarm, WantedProject, WantedToken, WantedTrustRule, WantedUser
from botfarm.domain.projects import ProjectChanges
from botfarm.web.api.access.access_requests import NewToken
from botfarm.web.api.shared.fields import (
    Integer,
    Labels,
    Login,
    Password,
    ProjectName,
    Secrets,
    ShortName,
    TokenName,
    TotpSeed,
)
from botfarm.web.api.shared.request_body import ABSENT, RequestBody
from botfarm.web.api.stock.project_requests import ProjectPolicyPatch, ProjectUsersPatch, frozen
from botfarm.web.api.trust.trust_requests import Issuer, NewTrustRule

MAX_PROJECTS, MAX_USERS, MAX_TOKENS, MAX_TRUST_RULES = 100, 10_000, 1_000, 1_000


class ConfiguredUser(RequestBody):
    login: Annotated[
        Login, Field(description="In a file `bot-{1..20}@shop.test` or `{01..20}` makes 20 users.")
    ]
    env: ShortName
    domain: Annotated[ShortName, Field(description="Absent: the first of the project, for a new user.")] = (
        ABSENT
    )
    labels: Annotated[Labels, Field(description="All that it has; absent: they stay as they are.")] = ABSENT
    password: Annotated[
        Password, Field(description="Of a new user; one that exists keeps its own, as for the two below.")
    ] = ABSENT
    secrets: Annotated[Secrets, Field(repr=False)] = ABSENT
    totp_seed: TotpSeed = ABSENT

    def wanted(self) -> WantedUser:
        return WantedUser(
            login=self.login,
            env=self.env,
            domain=self.domain,
            labels=self.labels,
            password=self.password.get_secret_value() if self.password else None,
            secrets=self.secrets,
            totp_seed=self.totp_seed.get_secret_value() if self.totp_seed else None,
        )


class ConfiguredProject(ProjectUsersPatch):
    name: ProjectName
    policy: ProjectPolicyPatch = ProjectPolicyPatch()
    users: Annotated[list[ConfiguredUser], Field(max_length=MAX_USERS)] = []

    def wanted(self) -> WantedProject:
        own = self.model_dump(exclude_unset=True, exclude={"name", "policy", "users"})
        given = {**own, **self.policy.model_dump(exclude_unset=True)}
        settings = ProjectChanges(**{name: frozen(value) for name, value in given.items()})
        return WantedProject(self.name, settings, tuple(user.wanted() for user in self.users))


class ConfiguredToken(NewToken):
    max_leases: Annotated[
        Integer | None,
        Field(ge=1, le=1_000_000, description="Users held at the same time; absent: any number."),
    ] = None
    expires_in: Annotated[
        Integer | None,
        Field(ge=1, le=315_360_000, description="Seconds, of a new token; absent: it does not expire."),
    ] = None

    def wanted(self) -> WantedToken:
        projects, envs = self.chosen_projects, self.chosen_envs
        return WantedToken(
            name=self.name,
            role=self.role,
            projects=None if projects is None else frozenset(map(str, projects)),
            envs=None if envs is None else frozenset(envs),
            max_leases=self.max_leases,
            expires_in=self.expires_in,
        )


class ConfiguredTrustRule(NewTrustRule):
    issuer: Annotated[
        Issuer,
        Field(
            description="As the tokens have it, such as `https://gitlab.com`; in a file also `github`, `gitlab`."
        ),
    ]

    def wanted(self) -> WantedTrustRule:
        projects, envs = self.chosen_projects, self.chosen_envs
        return WantedTrustRule(
            name=self.name,
            issuer=self.issuer,
            claims=self.claims,
            role=self.role,
            projects=None if projects is None else frozenset(map(str, projects)),
            envs=None if envs is None else frozenset(envs),
            max_leases=self.max_leases,
            max_leases_of_all=self.max_leases_of_all,
            token_ttl=self.token_ttl,
            once=self.once,
        )


class ConfigurationToPlan(RequestBody):
    name: Annotated[TokenName, Field(description="Of the file. It marks what the file has made.")]
    projects: Annotated[list[ConfiguredProject], Field(max_length=MAX_PROJECTS)] = []
    tokens: Annotated[list[ConfiguredToken], Field(max_length=MAX_TOKENS)] = []
    trust_rules: Annotated[list[ConfiguredTrustRule], Field(max_length=MAX_TRUST_RULES)] = []
    prune: Annotated[
        bool,
        Field(
            description="Retire the users and revoke the tokens and trust rules that the file made and no longer names."
        ),
    ] = False
    adopt: Annotated[bool, Field(description="Take over what the file names and did not make.")] = False

    def wanted(self) -> WantedFarm:
        return WantedFarm(
            name=self.name,
            projects=tuple(project.wanted() for project in self.projects),
            tokens=tuple(token.wanted() for token in self.tokens),
            trust_rules=tuple(rule.wanted() for rule in self.trust_rules),
            prune=self.prune,
            adopt=self.adopt,
        )


class ConfigurationToApply(ConfigurationToPlan):
    fingerprint: Annotated[str, StringConstraints(max_length=64), Field(description="Of the plan.")]
