"""Checks the bodies of requests to a fake farm, as far as users of the SDK get them wrong."""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any

from botfarm_client.connection.api_calls import Json
from botfarm_client.testing.fake_users import FakeProblem, invalid

_WANTED: Mapping[str, Any] = {
    "purpose": "test",
    "user_id": None,
    "project_id": None,
    "project": None,
    "env": None,
    "domain": None,
    "user": None,
    "labels": {},
    "count": 1,
    "ttl_seconds": None,
    "wait_seconds": 0,
    "priority": 0,
    "owner": None,
    "metadata": {},
    "note": None,
}
_RANGES = {"count": (1, 100), "ttl_seconds": (1, 86_400), "wait_seconds": (0, 300), "priority": (-10, 10)}
_CHOICES = {
    "purpose": {"test", "chore", "hold"},
    "outcome": {"ok", "dirty", "broken"},
    "action": {"quarantine", "restore", "retire", "delete", "label"},
    "state": {"free", "leased", "resting", "dirty", "chore", "held", "quarantined", "retired"},
    "health": {"unknown", "ok", "failing", "unreachable"},
}
_NAMES = {"env", "domain"}
_SHORT_NAME = "[a-z0-9][a-z0-9._-]{0,31}"
_NAME_RULE = "must be 1 to 32 of a-z, 0-9, dot, dash and underscore, the first a letter or digit"
_REASONS = {
    "credential_rejected", "locked_out", "captcha", "mfa", "data", "rate_limited", "environment", "other",
}  # fmt: skip
_OF_FILTER = {"project_id", "env", "domain", "state", "health", "login", "search", "labels"}


def body_of(content: bytes) -> Json:
    try:
        body = json.loads(content) if content else {}
    except ValueError:
        raise FakeProblem("malformed-json") from None
    if not isinstance(body, dict):
        raise invalid("body", "Input should be an object")
    return body


def check(body: Json, known: Collection[str], *, within: str = "", needed: Collection[str] = ()) -> Json:
    """Returns the body. Raises FakeProblem for fields that are unknown, missing or out of range."""
    for name, value in body.items():
        field = within + name
        if name not in known:
            raise invalid(field, "Extra inputs are not permitted")
        if name in _RANGES and value is not None:
            least, most = _RANGES[name]
            if not isinstance(value, int) or not least <= value <= most:
                raise invalid(field, f"Input should be from {least} to {most}")
        if name in _NAMES and value is not None and not re.fullmatch(_SHORT_NAME, str(value)):
            raise invalid(field, _NAME_RULE)
        if name in _CHOICES and (value is not None or name == "outcome") and value not in _CHOICES[name]:
            raise invalid(field, f"Input should be one of {sorted(_CHOICES[name])}")
    for name in needed:
        if body.get(name) is None:
            raise invalid(within + name, "Field required", "missing")
    return body


def wanted_lease(body: Json, *, default_domain: str) -> Json:
    """The body of an acquire, whole."""
    wanted = {**_WANTED, **check(body, _WANTED.keys())}
    wanted["domain"] = wanted["domain"] or default_domain
    is_hold, has_user = wanted["purpose"] == "hold", wanted["user_id"] is not None
    for name in ("user_id", "note"):
        if wanted[name] is not None and not is_hold:
            raise invalid(name, "goes with the purpose hold")
    wanted["labels"] = _checked_labels(wanted["labels"])
    if wanted["user"] is not None:
        _check_one_user(wanted)
    projects = [wanted["project"], wanted["project_id"]].count(None)
    if has_user and projects != 2:  # noqa: PLR2004  both are absent
        raise invalid("project", "a hold of one user needs no project")
    if not has_user and projects != 1:
        raise invalid("project", "give either project_id or project")
    if not has_user and wanted["env"] is None:
        raise invalid("env", "Field required", "missing")
    if is_hold and wanted["wait_seconds"]:
        raise invalid("wait_seconds", "a hold does not wait")
    return wanted


def _checked_labels(labels: Any) -> Json:
    """In the farm's form: alternatives sorted, each once, and one alone as a text. Raises FakeProblem."""
    if not isinstance(labels, dict):
        raise invalid("labels", "Input should be a valid dictionary")
    checked: Json = {}
    for key, value in labels.items():
        several = value if isinstance(value, list) else [value or ""]
        if not all(isinstance(each, str) for each in several):
            raise invalid(f"labels.{key}", "must be a text, a list of texts, or null")
        if not several:
            raise invalid("labels", "a list has 1 to 64 values")
        several = sorted(set(several))
        checked[key] = value if not isinstance(value, list) else several[0] if len(several) == 1 else several
    return checked


def _check_one_user(wanted: Json) -> None:
    if wanted["purpose"] != "test":
        raise invalid("user", "goes with the purpose test; a hold takes user_id")
    for name, value in (("labels", {}), ("count", 1)):
        if wanted[name] != value:
            raise invalid(name, "does not go with user, which is one user whatever its labels")


def release(body: Json) -> Json:
    _check_verdict(body, {"outcome", "reason", "note", "users"})
    seen: set[str] = set()
    for place, user in enumerate(body.get("users", [])):
        _check_verdict(user, {"id", "outcome", "reason", "note"}, within=f"users.{place}.")
        if user["id"] in seen:
            raise invalid("users", "has a user twice")
        seen.add(user["id"])
    return body


def bulk_change(body: Json) -> Json:
    check(body, {"action", "filter", "ids", "reason", "labels", "dry_run"}, needed={"action"})
    chosen = body.get("filter")
    if chosen is not None:
        check(chosen, {*_OF_FILTER, "all"}, within="filter.")
        if not chosen.get("all") and not any(chosen.get(name) for name in _OF_FILTER):
            raise invalid("filter.all", "a filter that matches everything needs all: true")
    if (chosen is None) == ("ids" not in body):
        raise invalid("filter" if chosen is None else "ids", "give either filter or ids")
    if body["action"] in {"quarantine", "retire"} and body.get("reason") is None:
        raise invalid("reason", "Field required", "missing")
    if bool(body.get("labels")) != (body["action"] == "label"):
        raise invalid("labels", "goes with the action label")
    return body


def _check_verdict(body: Json, known: Collection[str], *, within: str = "") -> None:
    check(body, known, within=within, needed={"id"} & set(known))
    reason = body.get("reason")
    if reason is not None and reason not in _REASONS:
        raise invalid(f"{within}reason", f"Input should be one of {sorted(_REASONS)}")
    if reason is not None and body.get("outcome", "ok") == "ok":
        raise invalid(f"{within}reason", "goes with the outcomes dirty and broken")
