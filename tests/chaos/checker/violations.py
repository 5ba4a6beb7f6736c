"""What is printed of a broken promise."""

from dataclasses import dataclass

from typing_extensions import override

from chaos.history import Call


@dataclass(frozen=True, slots=True)
class Violation:
    rule: str
    """The name of the promise, as in `RULES`."""
    what: str
    """Who, and with which user and lease, in one line."""
    evidence: tuple[str, ...] = ()
    """The calls or rows that show it, a line each."""

    @override
    def __str__(self) -> str:
        return "\n    ".join((f"{self.rule}: {self.what}", *self.evidence))


def shown(call: Call) -> str:
    """A call as a line of evidence, without its body and its answer, because these hold passwords."""
    key = f" key {call.key}" if call.key else ""
    answer = f"answered {call.status}{_slug(call)}" if call.status else f"no answer ({call.error})"
    return (
        f"{call.sent_at:.3f} to {call.ended_at:.3f} s: {call.client} ({call.principal}){key} "
        f"{call.method} {call.path} at {call.replica}: {answer}"
    )


def slug_of(call: Call) -> str | None:
    """The problem's slug, such as `lease-lapsed`, if the answer is a problem."""
    if isinstance(call.answer, dict) and isinstance(call.answer.get("type"), str):
        prefix, _, slug = call.answer["type"].rpartition(":")
        return str(slug) if prefix == "urn:botfarm:problem" else None
    return None


def _slug(call: Call) -> str:
    slug = slug_of(call)
    return f" {slug}" if slug else ""
