"""The exceptions that the command line shows as a single line."""


class UserError(Exception):
    """The message names what was expected, what was found and the fix, in one line. It may pass: a file is busy."""


class ParameterError(UserError):
    """A wrong parameter: waiting does not mend it, so nobody tries again with the same."""
