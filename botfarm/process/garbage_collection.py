"""How often Python looks for garbage in cycles. Everything else is freed at once, without it."""

import gc

NEW_OBJECTS = 10_000
"""New objects, less those that were freed, until the next look.

By default 700. With 64 requests in flight that is every few milliseconds, and finds nothing.
"""


def spare_what_stays() -> None:
    """Call it when the process has started: what is there now is never looked at again.

    That is 170,000 objects. A full look at them takes 50 ms in which nobody is answered.
    """
    gc.freeze()
    gc.set_threshold(NEW_OBJECTS)
