import base64
from uuid import uuid4

import pytest

from botfarm.crypto.key_ring import KeyRing, KeyRingError, MissingKeyError, generate_key

ROW = uuid4()


def ring(*ids: str) -> tuple[KeyRing, str]:
    text = ",".join(generate_key(key_id) for key_id in ids)
    return KeyRing.parse(text), text


def test_an_encrypted_value_is_read_back_and_differs_each_time() -> None:
    keys, _ = ring("k1")
    stored = [keys.encrypt("pässword", row_id=ROW, field="password") for _ in range(2)]
    assert stored[0] != stored[1]
    assert [keys.decrypt(value, row_id=ROW, field="password") for value in stored] == ["pässword"] * 2
    assert stored[0].startswith("v1.k1.")


def test_the_first_key_encrypts_and_all_decrypt() -> None:
    old, text = ring("k1")
    stored = old.encrypt("secret", row_id=ROW, field="password")
    both = KeyRing.parse(f"{generate_key('k2')},{text}")
    assert both.decrypt(stored, row_id=ROW, field="password") == "secret"
    assert both.encrypt("secret", row_id=ROW, field="password").startswith("v1.k2.")


def test_a_value_moved_to_another_row_or_field_or_changed_does_not_decrypt() -> None:
    keys, _ = ring("k1")
    stored = keys.encrypt("secret", row_id=ROW, field="password")
    with pytest.raises(KeyRingError):
        keys.decrypt(stored, row_id=uuid4(), field="password")
    with pytest.raises(KeyRingError):
        keys.decrypt(stored, row_id=ROW, field="secrets")
    changed = stored[:-6] + ("A" if stored[-6] != "A" else "B") + stored[-5:]
    with pytest.raises(KeyRingError):
        keys.decrypt(changed, row_id=ROW, field="password")


def test_a_key_that_is_missing_is_named() -> None:
    stored = ring("old")[0].encrypt("secret", row_id=ROW, field="password")
    new = ring("new")[0]
    with pytest.raises(MissingKeyError, match="'old'") as caught:
        new.decrypt(stored, row_id=ROW, field="password")
    assert caught.value.key_id == "old"
    assert new.missed == {"old"}


@pytest.mark.parametrize("damaged", ["v1.old.", "v1.old.AAAA", "v1.old.!", "v1.old.clear text"])
def test_of_a_damaged_value_no_key_is_missing(damaged: str) -> None:
    new = ring("new")[0]
    with pytest.raises(KeyRingError, match="not what was encrypted"):
        new.decrypt(damaged, row_id=ROW, field="password")
    assert new.missed == set()


@pytest.mark.parametrize(
    "text", ["k1", "k1:", "k1:c2hvcnQ=", ":AAAA", "a b:AAAA", "k1:not base64!", "{0},{0}"]
)
def test_a_ring_that_cannot_work_is_refused_without_showing_keys(text: str) -> None:
    text = text.format(generate_key("k1"))
    with pytest.raises(KeyRingError) as caught:
        KeyRing.parse(text)
    encoded = text.rpartition(":")[2]
    assert not encoded or encoded not in str(caught.value)


def test_an_empty_ring_encrypts_nothing_and_says_how_to_make_a_key() -> None:
    with pytest.raises(KeyRingError, match="botfarm keys generate"):
        KeyRing.parse("").encrypt("secret", row_id=ROW, field="password")


def test_a_derived_key_depends_on_purpose_and_key_and_is_not_the_key() -> None:
    keys, text = ring("k2", "k1")
    derived = keys.derive(b"one")
    assert len(derived) == 32
    assert derived == keys.derive(b"one", "k2") == KeyRing.parse(text).derive(b"one")
    assert len({derived, keys.derive(b"two"), keys.derive(b"one", "k1")}) == 3
    assert base64.b64encode(derived).decode() not in text


def test_nothing_is_derived_from_a_key_that_is_not_there() -> None:
    keys, _ = ring("k1")
    for missing in ("k2", ""):
        with pytest.raises(KeyRingError):
            keys.derive(b"one", missing)
    with pytest.raises(KeyRingError, match="botfarm keys generate"):
        KeyRing.parse("").derive(b"one")


def test_a_ring_shows_no_key() -> None:
    keys, text = ring("k1")
    key = base64.b64decode(text.partition(":")[2])
    assert repr(key) not in repr(keys)
    assert text.partition(":")[2] not in repr(keys)
