"""One change for many users: what it would do, and after a confirmation what it has done."""

from dataclasses import asdict
from http import HTTPStatus
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Form, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import Field, ValidationError

from botfarm.domain.access import Principal, Role
from botfarm.domain.users import MAX_LABELS, BulkAction, BulkResult
from botfarm.errors import (
    ChangedMeanwhileError,
    FieldError,
    InvalidRequestError,
    NoSuchUserError,
    UserBusyError,
    UserRetiredError,
)
from botfarm.runtime.services import Services
from botfarm.web.api.shared.fields import Note, Text
from botfarm.web.api.shared.request_body import RequestBody
from botfarm.web.api.stock.user_requests import BulkFilter, BulkRequest
from botfarm.web.http.dependencies import Caller, Farm
from botfarm.web.http.error_responses import PROBLEMS
from botfarm.web.http.roles import needs
from botfarm.web.pages.page_routing import page_router, see
from botfarm.web.pages.rendering import render
from botfarm.web.pages.users.chosen_users import ChosenUsers, UsersFilter

router = page_router()

_WITH_REASON = frozenset({BulkAction.QUARANTINE, BulkAction.RETIRE})
_NO_REASON_YET = "-"
"""Of a dry run, which is taken back: a person gives the reason when the numbers are known."""

_DONE = {
    BulkAction.QUARANTINE: "quarantined",
    BulkAction.RESTORE: "restored",
    BulkAction.RETIRE: "retired",
    BulkAction.DELETE: "deleted",
    BulkAction.LABEL: "labelled",
}
_WHY = {
    **{PROBLEMS[kind][1]: kind().detail for kind in (NoSuchUserError, UserBusyError, UserRetiredError)},
    "invalid-request": f"The user would have more than {MAX_LABELS} labels.",
}


class BulkForm(RequestBody):
    action: BulkAction
    which: Literal["checked", "matching", "all"]
    ids: list[UUID] = Field(default_factory=list)
    label: Text = ""
    """`key:value` sets it, `key` removes it."""
    reason: Note | None = None
    confirmed: bool = False
    seen_matched: int | None = None
    """How many the dry run found, and of how many it would have replaced the reason."""
    seen_replaced: int = 0


@router.get("/users/bulk")
@needs(Role.MANAGER)
async def no_bulk_page(chosen: UsersFilter) -> Response:
    """For a browser that loads the address of the form again."""
    return see(chosen.address("/ui/users"))


@router.post("/users/bulk")
@needs(Role.MANAGER)
async def bulk_page(
    farm: Farm, caller: Caller, request: Request, chosen: UsersFilter, form: Annotated[BulkForm, Form()]
) -> Response:
    """Shows a dry run or, once it is confirmed, makes the change.

    A change of more users than the dry run showed, or one that would replace reasons which somebody else has given
    since then, is shown once more.
    """
    if not form.confirmed:
        result = await _change(farm, caller, chosen, form, dry_run=True)
        return _page(request, chosen, form, result, is_done=False)
    if form.action in _WITH_REASON:
        now = await _change(farm, caller, chosen, form, dry_run=True)
        if now.replaced > form.seen_replaced:
            return _page(request, chosen, form, now, is_done=False, is_overtaken=True)
    try:
        result = await _change(farm, caller, chosen, form, dry_run=False)
    except ChangedMeanwhileError:
        now = await _change(farm, caller, chosen, form, dry_run=True)
        return _page(request, chosen, form, now, is_done=False, is_overtaken=True)
    return _page(request, chosen, form, result, is_done=True)


async def _change(
    farm: Services, caller: Principal, chosen: ChosenUsers, form: BulkForm, *, dry_run: bool
) -> BulkResult:
    """Raises InvalidRequestError, RequestValidationError, and ChangedMeanwhileError when more users match by now."""
    body = _body(chosen, form, dry_run=dry_run)
    at_most = None if dry_run else form.seen_matched
    return await farm.bulk.change(caller, body.chosen(), body.change(), dry_run=dry_run, at_most=at_most)


def _body(chosen: ChosenUsers, form: BulkForm, *, dry_run: bool) -> BulkRequest:
    """The same change as a request to the API has it, so that the same rules are checked."""
    if form.which == "checked" and not form.ids:
        raise InvalidRequestError(FieldError("ids", "missing", "check the rows of some users first"))
    if form.action is BulkAction.LABEL and not form.label:
        raise InvalidRequestError(FieldError("label", "missing", "say which: key:value, or key to remove it"))
    asked: dict[str, object] = {"action": form.action, "dry_run": dry_run, "labels": _labels(form.label)}
    if form.action in _WITH_REASON:
        asked["reason"] = _NO_REASON_YET if dry_run else form.reason
    try:
        if form.which == "checked":
            asked["ids"] = form.ids
        else:
            asked["filter"] = BulkFilter(**asdict(chosen.filter), all=form.which == "all")
        return BulkRequest(**asked)
    except ValidationError as error:
        found = [{**each, "loc": ("body", *each["loc"])} for each in error.errors()]
        raise RequestValidationError(found) from None


def _labels(text: str) -> dict[str, str | None]:
    key, colon, value = text.partition(":")
    return {key: value if colon else None} if text else {}


def _page(
    request: Request,
    chosen: ChosenUsers,
    form: BulkForm,
    result: BulkResult,
    *,
    is_done: bool,
    is_overtaken: bool = False,
) -> Response:
    failed = len(result.failed)
    asked = len(set(form.ids)) if form.which == "checked" else result.matched
    return render(
        request,
        "users_bulk.html",
        title=f"{form.action.capitalize()} many users",
        status=HTTPStatus.CONFLICT if is_overtaken else HTTPStatus.OK,
        chosen=chosen,
        form=form,
        result=result,
        asked=asked,
        as_wished=max(0, asked - result.done - failed),
        failures=[(each.id, each.login, _WHY[each.problem]) for each in result.failed],
        done_word=_DONE[form.action],
        needs_reason=form.action in _WITH_REASON,
        is_done=is_done,
        is_overtaken=is_overtaken,
        has_changed=form.seen_matched not in {None, result.matched},
    )
