"""Reads the key ring of this process from its settings."""

from botfarm.crypto.key_ring import HOW_TO_MAKE_A_KEY, KeyRing, KeyRingError
from botfarm.settings import Settings, SettingsError


def read_key_ring(settings: Settings) -> KeyRing:
    """Raises SettingsError when a key cannot be used.

    An empty ring is fine for a process that never decrypts.
    """
    try:
        return KeyRing.parse(settings.encryption_keys.get_secret_value())
    except KeyRingError as error:
        raise SettingsError(f"BOTFARM_ENCRYPTION_KEYS: {error}") from None


def require_keys(settings: Settings) -> None:
    """Raises SettingsError when there is no key. For a process that stores or hands out credentials."""
    if read_key_ring(settings).active_key_id is None:
        raise SettingsError(f"BOTFARM_ENCRYPTION_KEYS is not set: {HOW_TO_MAKE_A_KEY}")
