"""The one exception that the command line shows as a single line."""


class UserError(Exception):
    """Bad input: the message names what was expected, what was found and the fix, in one line."""
