"""The short names of issuers that people use."""

_ADDRESSES = {"github": "https://token.actions.githubusercontent.com", "gitlab": "https://gitlab.com"}


def issuer_address(written: str) -> str:
    """The address of an issuer that is written as `github`, `gitlab` or its address."""
    return _ADDRESSES.get(written, written)
