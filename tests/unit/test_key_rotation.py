import pytest

from botfarm.crypto.key_ring import generate_key
from botfarm.services.upkeep.key_rotation import Step, rotate_ring, without_key
from botfarm.settings import SettingsError

K1, K2, DEV = generate_key("k1"), generate_key("k2"), generate_key("dev")


def test_a_new_key_comes_last_so_that_it_decrypts_before_it_encrypts() -> None:
    added = rotate_ring(K1, None)
    assert (added.step, added.key_id, added.others) == (Step.ADDED, "k2", ("k1",))
    assert added.encryption_keys.startswith(f"{K1},k2:")
    assert added.next_command == "botfarm keys rotate --id k2"
    assert rotate_ring(K1, None).encryption_keys != added.encryption_keys


@pytest.mark.parametrize(
    ("ring", "key_id"),
    [(K1, "k2"), (DEV, "k1"), (f"{DEV},{generate_key('k9')},{K1}", "k10")],
    ids=["k1", "dev", "dev, k9, k1"],
)
def test_the_next_id_is_one_that_was_not_given_before(ring: str, key_id: str) -> None:
    assert rotate_ring(ring, None).key_id == key_id


def test_a_key_of_the_ring_is_moved_to_the_front_and_the_others_keep_their_order() -> None:
    moved = rotate_ring(f" {K1}, {DEV},\n{K2}\n", "k2")
    assert moved.encryption_keys == f"{K2},{K1},{DEV}"
    assert (moved.step, moved.next_command) == (Step.MOVED, "botfarm keys reencrypt")


def test_the_first_key_stays_where_it_is() -> None:
    same = rotate_ring(f"{K2},{K1}", "k2")
    assert (same.step, same.encryption_keys) == (Step.IN_PLACE, f"{K2},{K1}")
    assert same.next_command == "botfarm keys reencrypt"


def test_a_key_that_encrypts_or_is_unknown_cannot_be_dropped() -> None:
    dropped = without_key(f"{K2},{K1},{DEV}", "k1")
    assert (dropped.step, dropped.encryption_keys) == (Step.DROPPED, f"{K2},{DEV}")
    for key_id, words in (("k2", "encrypts"), ("k3", "k2, k1, dev")):
        with pytest.raises(SettingsError, match=words):
            without_key(f"{K2},{K1},{DEV}", key_id)


@pytest.mark.parametrize("ring", ["", "k1:canary", f"{K1},{K1}"], ids=["empty", "short", "twice"])
def test_a_ring_that_cannot_be_used_is_not_rotated_nor_shown(ring: str) -> None:
    for work in (lambda: rotate_ring(ring, None), lambda: without_key(ring, "k1")):
        with pytest.raises(SettingsError) as caught:
            work()
        assert str(caught.value).startswith("BOTFARM_ENCRYPTION_KEYS")
        assert "canary" not in str(caught.value)
        assert K1.partition(":")[2] not in str(caught.value)


@pytest.mark.parametrize("key_id", ["", "a b", "a,b", "a:b", "x" * 33])
def test_an_id_that_would_break_the_ring_is_refused(key_id: str) -> None:
    with pytest.raises(SettingsError, match="--id"):
        rotate_ring(K1, key_id)


def test_no_key_is_shown_by_accident() -> None:
    assert K1.partition(":")[2] not in repr(rotate_ring(K1, None))
