"""A change of many users on the page: shown before it is made, then told for each."""

import httpx
import pytest

from botfarm.domain.access import Role
from botfarm.services.stock import bulk
from support.farm import Farm
from support.http import LEASE, create_project, create_user
from support.pages import Browser, SignIn, text_of

QUARANTINE = {"action": "quarantine", "which": "matching"}


async def states(api: httpx.AsyncClient) -> list[str]:
    return sorted(user["state"] for user in (await api.get("/users")).json()["items"])


async def test_a_change_is_shown_before_it_is_made_and_then_told_for_each(
    api: httpx.AsyncClient, sign_in: SignIn, farm: Farm
) -> None:
    project_id = await create_project(api)
    free, gone, other = [await create_user(api, project_id, labels={"tenant": t}) for t in "aab"]
    await api.post(f"/users/{gone['id']}/retire", json={"reason": "gone"})
    ann = await sign_in("Ann", Role.MANAGER)
    check = await ann.post("/ui/users/bulk?label=tenant:a", QUARANTINE)
    assert check.status_code == 200
    assert "All that match the filter: label tenant:a." in text_of(check)
    assert "1 of 2 users would be quarantined. 1 could not." in text_of(check)
    assert f"{gone['login']} The user is retired, for good." in text_of(check)
    assert await states(api) == ["free", "free", "retired"]
    done = await ann.confirm(check, reason="the tenant moves")
    assert "1 done, 1 failed (of 2)." in text_of(done)
    assert f"{gone['login']} The user is retired, for good." in text_of(done)
    assert await states(api) == ["free", "quarantined", "retired"]
    assert (await api.get(f"/users/{other['id']}")).json()["state"] == "free"
    by = await farm.sql.fetch("SELECT principal, details FROM audit WHERE action = 'quarantine_user'")
    assert [row["principal"] for row in by] == ["operator:Ann"]
    assert '"the tenant moves"' in by[0]["details"]
    assert (await api.get(f"/users/{free['id']}")).json()["status_by"] == "operator:Ann"


async def test_a_reason_is_asked_for_only_where_it_hurts(admin: Browser, api: httpx.AsyncClient) -> None:
    await create_user(api, await create_project(api))
    for action in ("quarantine", "retire"):
        check = await admin.post("/ui/users/bulk", {"action": action, "which": "all"})
        assert 'name="reason"' in check.text
        refused = await admin.confirm(check, reason="")
        assert refused.status_code == 422
        assert "reason: Field required" in text_of(refused)
    assert await states(api) == ["free"]
    for action, fields in (("label", {"label": "a:b"}), ("delete", {})):
        check = await admin.post("/ui/users/bulk", {"action": action, "which": "all", **fields})
        assert 'name="reason"' not in check.text
        assert "1 done, 0 failed (of 1)." in text_of(await admin.confirm(check))
    assert await states(api) == []


async def test_checked_rows_are_changed_and_no_others(admin: Browser, api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    ids = [(await create_user(api, project_id))["id"] for _ in range(3)]
    chosen = {"action": "quarantine", "which": "checked"}
    nothing = await admin.post("/ui/users/bulk?state=free", chosen)
    assert (nothing.status_code, "check the rows of some users first" in nothing.text) == (422, True)
    await api.delete(f"/users/{ids[0]}")
    check = await admin.post("/ui/users/bulk?state=free", {**chosen, "ids": ids[:2]})
    assert "1 of 2 users would be quarantined. 1 could not." in text_of(check)
    assert f"{ids[0]} There is no such user." in text_of(check)
    assert "1 done, 1 failed (of 2)." in text_of(await admin.confirm(check, reason="why"))
    assert (await api.get(f"/users/{ids[1]}")).json()["state"] == "quarantined"
    assert (await api.get(f"/users/{ids[2]}")).json()["state"] == "free"


async def test_everybody_is_changed_only_when_the_form_says_all(
    admin: Browser, api: httpx.AsyncClient
) -> None:
    await create_user(api, await create_project(api))
    refused = await admin.post("/ui/users/bulk", {"action": "delete", "which": "matching"})
    assert refused.status_code == 422
    assert "a filter that matches everything needs all: true" in text_of(refused)
    page = await admin.get("/ui/users")
    assert 'value="all"' in page.text
    assert 'value="matching"' not in page.text
    filtered = await admin.get("/ui/users?state=free")
    assert 'value="all"' not in filtered.text
    assert 'value="matching"' in filtered.text


async def test_labels_are_set_and_removed(admin: Browser, api: httpx.AsyncClient) -> None:
    user = await create_user(api, await create_project(api), labels={"old": "1"})
    for label, expected in (("new:a:b", {"old": "1", "new": "a:b"}), ("old", {"new": "a:b"})):
        check = await admin.post(
            "/ui/users/bulk?state=free", {**QUARANTINE, "action": "label", "label": label}
        )
        assert "1 of 1 user would be labelled." in text_of(check)
        await admin.confirm(check)
        assert (await api.get(f"/users/{user['id']}")).json()["labels"] == expected
    without = await admin.post("/ui/users/bulk?state=free", {**QUARANTINE, "action": "label"})
    assert (without.status_code, "key to remove it" in without.text) == (422, True)


async def test_why_a_user_was_left_out_is_said_in_words(admin: Browser, api: httpx.AsyncClient) -> None:
    project_id = await create_project(api)
    await create_user(api, project_id, labels={f"k{n}": "" for n in range(64)})
    await api.post("/leases", json=LEASE)
    for action, fields, why in (
        ("delete", {}, "The user is leased, or rests after a lease."),
        ("label", {"label": "more:1"}, "The user would have more than 64 labels."),
    ):
        page = await admin.post("/ui/users/bulk", {"action": action, "which": "all", **fields})
        assert "0 of 1 user would be" in text_of(page)
        assert why in text_of(page)
        assert 'name="confirmed"' not in page.text
    restore = await admin.post("/ui/users/bulk", {"action": "restore", "which": "all"})
    assert "1 user needs no change." in text_of(restore)


async def test_too_many_users_are_refused_in_words(
    admin: Browser, api: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MAX_USERS", 1)
    project_id = await create_project(api)
    for _ in range(2):
        await create_user(api, project_id)
    page = await admin.post("/ui/users/bulk", {"action": "restore", "which": "all"})
    assert page.status_code == 422
    assert "matches more than 1 users: narrow it" in page.text


async def test_the_second_of_two_people_is_told_before_a_reason_is_replaced(
    api: httpx.AsyncClient, sign_in: SignIn
) -> None:
    user = await create_user(api, await create_project(api), labels={"tenant": "a"})
    ann, bob = await sign_in("Ann", Role.MANAGER), await sign_in("Bob", Role.MANAGER)
    address = "/ui/users/bulk?label=tenant:a"
    of_ann, of_bob = await ann.post(address, QUARANTINE), await bob.post(address, QUARANTINE)
    await ann.confirm(of_ann, reason="Ann was first")
    told = await bob.confirm(of_bob, reason="Bob's reason")
    assert told.status_code == 409
    assert "somebody else has quarantined some of them. Nothing was changed." in text_of(told)
    assert 'value="Bob&#39;s reason"' in told.text
    seen = (await api.get(f"/users/{user['id']}")).json()
    assert (seen["status_by"], seen["status_reason"]) == ("operator:Ann", "Ann was first")
    insisted = await bob.confirm(told, reason="Bob's reason")
    assert "1 user was quarantined already: the reason is replaced." in text_of(insisted)
    assert (await api.get(f"/users/{user['id']}")).json()["status_by"] == "operator:Bob"


async def test_no_more_users_are_changed_than_the_dry_run_showed(
    admin: Browser, api: httpx.AsyncClient
) -> None:
    project_id = await create_project(api)
    await create_user(api, project_id)
    address, delete = "/ui/users/bulk?project=shop", {"action": "delete", "which": "matching"}
    shown = await admin.post(address, delete)
    await create_user(api, project_id)
    told = await admin.confirm(shown)
    assert told.status_code == 409
    assert "Since you looked, more users match" in text_of(told)
    assert await states(api) == ["free", "free"]
    await admin.confirm(told)
    assert await states(api) == []


async def test_the_second_of_two_people_is_told_when_nothing_is_left_to_change(
    api: httpx.AsyncClient, sign_in: SignIn
) -> None:
    project_id = await create_project(api)
    for _ in range(2):
        await create_user(api, project_id)
    ann, bob = await sign_in("Ann", Role.MANAGER), await sign_in("Bob", Role.MANAGER)
    asked = {"action": "delete", "which": "matching"}
    of_ann, of_bob = [await each.post("/ui/users/bulk?state=free", asked) for each in (ann, bob)]
    assert "2 done" in text_of(await ann.confirm(of_ann))
    told = text_of(await bob.confirm(of_bob))
    assert "0 done, 0 failed (of 0)." in told
    assert "2 matched when you looked, 0 do now: others have changed users meanwhile." in told


async def test_a_page_of_another_site_changes_nothing(api: httpx.AsyncClient, sign_in: SignIn) -> None:
    await create_user(api, await create_project(api))
    ann = await sign_in("Ann", Role.ADMIN)
    ann.client.headers["Sec-Fetch-Site"] = "cross-site"
    asked = {"action": "delete", "which": "all", "confirmed": "yes"}
    assert (await ann.post("/ui/users/bulk", asked)).status_code == 403
    assert (
        await ann.upload("login,password,env,domain,project\na@x.test,p,stage,regular,shop")
    ).status_code == 403
    assert await states(api) == ["free"]


async def test_the_address_of_a_change_leads_back_to_its_list(admin: Browser) -> None:
    answer = await admin.get("/ui/users/bulk?state=free")
    assert (answer.status_code, answer.headers["location"]) == (303, "/ui/users?state=free")
