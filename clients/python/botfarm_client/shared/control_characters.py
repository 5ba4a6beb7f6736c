def escape_control_characters(text: str) -> str:
    """What others have stored cannot move the cursor or forge a line: control characters are shown by their codes."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text
    )
