"""The requests that the holder of a lease makes, with their retries: renew, release, and requests about a user.

The steps are carried out by a thread or by a task, see `connection/retrying.py`.
"""

from botfarm_client.connection.api_calls import Call, Json
from botfarm_client.connection.retrying import Backoff, Pause, Steps, may_pass, retry_steps
from botfarm_client.errors import BotfarmError, FarmUnreachableError
from botfarm_client.leasing.lease_clock import ANSWER_PATIENCE, ENDED, LeaseClock
from botfarm_client.leasing.verdicts import Verdict

PATIENCE = 10.0
"""Seconds for which a request is retried."""
CODE_PATIENCE = 90.0
"""The same for a one-time code: when several holders ask for codes of one user, each waits for a code of its own."""


def renewal_steps(lease_clock: LeaseClock, ttl: int | None) -> Steps[None]:
    """The steps of a renewal that the holder asks for.

    Raises LeaseLostError, and the last failure after `PATIENCE`.
    """
    until, backoff = lease_clock.now() + PATIENCE, Backoff()
    while True:
        lease_clock.check()
        asked_at = lease_clock.now()
        try:
            answer = yield lease_clock.renewal_call(ttl, patience=ANSWER_PATIENCE)
            lease_clock.renewed(answer, asked_at)
        except ENDED as error:
            lease_clock.not_renewed(error)
            lease_clock.check()
            raise
        except BotfarmError as error:
            pause = (error.retry_after or 0.0) + backoff.pause()
            if not may_pass(error) or lease_clock.now() + pause > until:
                raise
        else:
            return
        yield Pause(pause)


def request_steps(lease_clock: LeaseClock, call: Call, *, patience: float | None = None) -> Steps[Json]:
    """The steps of a request that only the holder may make.

    Raises LeaseLostError, and the last failure after `patience` seconds, by default after `PATIENCE`.
    """
    lease_clock.check()
    try:
        limit = PATIENCE if patience is None else patience
        return (yield from retry_steps(call, patience=limit, now=lease_clock.now))
    except ENDED:
        lease_clock.ended()
        lease_clock.check()
        raise


def release_steps(
    lease_clock: LeaseClock, of_all: Verdict | None = None, *, until: float | None = None
) -> Steps[None]:
    """The steps of a release, with retries until `until`, by default for `PATIENCE`.

    `of_all`: what is said of each user that was not marked, when the holder itself releases.
    From the first step on the lease is not renewed, and it is not reported as lost while the release goes on.
    A lease that is lost already is released once, without retries, because it ends by itself.
    Raises LeaseLostError when the farm had ended the lease, else the last failure.
    """
    loss = lease_clock.look()
    left = PATIENCE if until is None else until - lease_clock.now()
    if left < 0:
        raise FarmUnreachableError("there was no time left for it")
    body = lease_clock.verdicts.release(of_all)
    path = f"/leases/{lease_clock.lease_id}/release"
    call = Call(method="POST", path=path, json=body, patience=ANSWER_PATIENCE)
    lease_clock.give_up()
    try:
        yield from retry_steps(call, patience=0 if loss else left, now=lease_clock.now)
    except ENDED:
        if lease_clock.expires_in > 0:  # later it may have ended while the farm was out of reach
            lease_clock.is_released = False
            lease_clock.ended()
            lease_clock.check()
    except BaseException:
        lease_clock.is_released = False
        raise
