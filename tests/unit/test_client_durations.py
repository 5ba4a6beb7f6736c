from datetime import UTC, datetime

import pytest
import typer

from botfarm_client.commands.shared.key_values import (
    format_pairs,
    format_wanted,
    parse_changes,
    parse_pairs,
    parse_wanted,
)
from botfarm_client.shared.durations import (
    TimeFormatError,
    format_duration,
    format_moment,
    format_relative,
    parse_duration,
)

NOW = datetime(2026, 11, 23, 15, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("0", 0),
        ("90", 90),
        ("90s", 90),
        ("15m", 900),
        (" 2H ", 7_200),
        ("1h30m", 5_400),
        ("1d", 86_400),
        ("90d", 7_776_000),
        ("1m5", 65),
    ],
)
def test_durations_are_written_as_people_do(written: str, seconds: int) -> None:
    assert parse_duration(written) == seconds


@pytest.mark.parametrize("written", ["", " ", "m", "-5", "1.5h", "2w", "5m2h", "15 m", "٣", "9" * 13])
def test_an_invalid_duration_is_refused_with_examples(written: str) -> None:
    with pytest.raises(TimeFormatError, match="90, 90s, 15m, 2h, 1h30m or 90d"):
        parse_duration(written)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-3, "0s"),
        (0, "0s"),
        (0.4, "0s"),
        (41.7, "42s"),
        (59.6, "1m"),
        (900, "15m"),
        (5_430, "1h30m"),
        (3_605, "1h"),
        (93_600, "1d2h"),
        (86_461, "1d"),
    ],
)
def test_durations_show_their_two_largest_units(seconds: float, shown: str) -> None:
    assert format_duration(seconds) == shown


def test_a_duration_as_shown_can_be_parsed() -> None:
    for seconds in (0, 1, 59, 60, 61, 3_600, 5_400, 86_400, 100_800):
        assert parse_duration(format_duration(seconds)) == seconds


def test_moments_are_shown_as_utc_and_as_seen_from_now() -> None:
    assert format_moment("2026-11-23T15:57:00+01:00", now=NOW) == "2026-11-23 14:57:00 UTC (3m ago)"
    assert format_relative("2026-11-23T15:15:00.5Z", now=NOW) == "in 15m"
    assert format_moment(None) == format_relative(None) == ""


def test_pairs_are_split_at_the_first_equals_sign() -> None:
    assert parse_pairs(["a=1", "b=x=y", "c="], option="--label") == {"a": "1", "b": "x=y", "c": ""}
    assert parse_changes(["a=1", "c="], option="--label") == {"a": "1", "c": None}
    assert format_pairs({"a": "1", "b": 2, "c": ["é", None]}) == 'a=1, b=2, c=["é", null]'


def test_wanted_labels_are_one_value_one_of_several_or_absent() -> None:
    wanted = parse_wanted(["plan=paid", "lang=de,fr", "!legacy", "plan=trial", "!a=b"], option="--label")
    assert wanted == {"plan": ["paid", "trial"], "lang": "de,fr", "!a": "b", "legacy": None}
    assert format_wanted(wanted) == "plan=paid or trial, lang=de,fr, !a=b, no legacy"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["plan"], "key=value or !key"),
        (["=a"], "!key"),
        (["!"], "!key"),
        (["plan=paid", "!plan"], "plan cannot have a value and be absent"),
    ],
)
def test_wanted_labels_that_no_user_can_have_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(typer.BadParameter, match=message):
        parse_wanted(texts, option="--label")


@pytest.mark.parametrize("text", ["", "a", "=1"])
def test_an_option_without_an_equals_sign_is_refused_without_its_value(text: str) -> None:
    with pytest.raises(typer.BadParameter, match="key=value"):
        parse_pairs([text], option="--label")
