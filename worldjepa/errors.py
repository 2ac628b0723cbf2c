"""The one exception for what a user can put right."""


class UserError(Exception):
    """One line: what is wrong, where, and what would be right. The command line prints it; exit code 2."""
