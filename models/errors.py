"""The one exception of bad input; it stands apart so that every module may raise it."""


class InputError(ValueError):
    """Something asked for cannot be had; one line with the value, what is allowed, the remedy."""


def first_line(error: BaseException) -> str:
    """What an error says first, with its type: fit for the end of a one-line message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__
