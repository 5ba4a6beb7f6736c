import asyncio
from contextlib import closing

from botfarm_client.connection.api_calls import Call, Json
from botfarm_client.connection.async_connection import AsyncConnection
from botfarm_client.connection.retrying import Pause, Result, Steps
from botfarm_client.errors import BotfarmError


async def carry_out(steps: Steps[Result], connection: AsyncConnection) -> Result:
    with closing(steps):
        try:
            step = next(steps)
            while True:
                try:
                    answer = await _do(step, connection)
                except BotfarmError as error:
                    step = steps.throw(error)
                else:
                    step = steps.send(answer)
        except StopIteration as end:
            result: Result = end.value
            return result


async def _do(step: Call | Pause, connection: AsyncConnection) -> Json:
    if isinstance(step, Call):
        return await connection.send(step)
    await asyncio.sleep(step.seconds)
    return {}
