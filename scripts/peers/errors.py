"""The one exception for what the user can mend."""


class BenchError(Exception):
    """Shown without a traceback: says what went wrong and what to do."""
