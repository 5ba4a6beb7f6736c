from uuid import UUID


def is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
