def escape_control_characters(text: str) -> str:
    """Shows control characters by their codes, so that stored text cannot move the cursor or forge a line."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text
    )
