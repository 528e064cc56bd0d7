"""What tests ask of a message: the option and what was given for it, not the whole sentence."""


def says(message: str, parts: str) -> bool:
    """Whether a message has all parts, which `` … `` stands between."""
    return all(part in message for part in parts.split(" … "))
