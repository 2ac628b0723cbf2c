"""The one exception for what a user can put right."""


class UserError(Exception):
    """One line that names what is wrong, where, and what would be right; the command line prints it and exits with 2."""
