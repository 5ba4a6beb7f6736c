"""What a farm shows while requests are made: answers, log lines, metrics and audit, without random values."""

import json
import logging
import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
from prometheus_client import REGISTRY

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_TOKEN = re.compile(r"(?<=^token:ci:)\w+|^\w{12}$")
_LOGIN = re.compile(r"user-\d+")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")
_MASKED = {"expires_in", "waited", "next_free_in", "code", "token", "request_id", "milliseconds", "timestamp"}
_MASKED_HEADERS = {"x-request-id", "content-length", "retry-after"}
# Loggers of the background checks, whose times depend on the clock.
_WATCHES = ("botfarm.runtime.readiness", "botfarm.db")
_METRICS_OF_WATCHES = ("botfarm_db_",)


@dataclass
class Recording:
    counts_repeats: bool = True
    """False where requests repeat until something has happened: then each observation is kept once."""
    answers: list[str] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    audit: list[str] = field(default_factory=list)

    async def answered(self, response: httpx.Response) -> None:
        """A hook of httpx."""
        await response.aread()
        headers = response.headers
        assert response.request.method == "HEAD" or int(headers["content-length"]) == len(response.content)
        is_json = response.content and headers["content-type"].endswith("json")
        self.answers.append(
            self._plain(
                {
                    "request": f"{response.request.method} {response.request.url.path}",
                    "status": response.status_code,
                    "headers": sorted(
                        (name, "*" if name in _MASKED_HEADERS else value)
                        for name, value in headers.multi_items()
                    ),
                    "body": response.json() if is_json else response.text,
                }
            )
        )

    def read_audit(self, entries: list[dict[str, Any]]) -> None:
        self.audit = [self._plain(entry) for entry in entries]

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Log lines and metrics of the block."""
        handler = _Lines(self)
        before = _samples()
        logging.getLogger().addHandler(handler)
        try:
            yield
        finally:
            logging.getLogger().removeHandler(handler)
            grown = {name: value - before.get(name, 0) for name, value in _samples().items()}
            self.metrics = {name: value for name, value in grown.items() if value}

    def shown(self) -> dict[str, object]:
        if self.counts_repeats:
            return {
                "answers": self.answers,
                "lines": Counter(self.lines),
                "metrics": self.metrics,
                "audit": self.audit,
            }
        return {
            "answers": set(self.answers),
            "lines": set(self.lines),
            "metrics": set(self.metrics),
            "audit": set(self.audit),
        }

    def line(self, record: logging.LogRecord) -> None:
        if record.name.startswith("botfarm") and not record.name.startswith(_WATCHES):
            event = record.msg if isinstance(record.msg, dict) else {"event": record.getMessage()}
            self.lines.append(self._plain({**event, "logger": record.name}))

    def _plain(self, value: object) -> str:
        """Replaces what is random: an id gets one name within an answer; the granted login becomes `user`."""
        names: dict[str, str] = {}

        def masked(value: object, key: str = "") -> object:
            match value:
                case dict():
                    return {each: masked(inner, each) for each, inner in value.items() if each[:1] != "_"}
                case list() | tuple():
                    return [masked(each, key) for each in value]
                case str() if key in {"id", "target_id", "principal"} and _TOKEN.search(value):
                    return _TOKEN.sub("*", value)
                case str() if key not in _MASKED:
                    named = _ID.sub(lambda found: names.setdefault(found[0], f"id-{len(names)}"), value)
                    return _LOGIN.sub("user", _TIME.sub("*", named))
                case str() | int() | float() if key in _MASKED or (
                    key == "fence" and not self.counts_repeats
                ):
                    return "*"
                case _:
                    return value

        return json.dumps(masked(value), sort_keys=True, default=str)


class _Lines(logging.Handler):
    def __init__(self, recording: Recording) -> None:
        super().__init__(logging.INFO)
        self._recording = recording

    def emit(self, record: logging.LogRecord) -> None:
        self._recording.line(record)


def _samples() -> dict[str, float]:
    """Counters, and how often each histogram was observed."""
    return {
        f"{sample.name}{json.dumps(sample.labels, sort_keys=True)}": sample.value
        for family in REGISTRY.collect()
        if family.name.startswith("botfarm_") and not family.name.startswith(_METRICS_OF_WATCHES)
        for sample in family.samples
        if sample.name.endswith(("_total", "_count"))
    }
