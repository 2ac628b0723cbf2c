"""JSON and YAML that others may have written: whatever is wrong with a text, there is one kind of error."""

import json
from typing import Any

import yaml

# What using a tree raises that has not the form that it should have.
OTHER_FORM = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError, MemoryError)


class Unreadable(ValueError):
    """Why a text is no JSON, or no YAML, in a line."""


def from_json(text: str | bytes) -> Any:
    """What a text says; NaN and infinities are numbers here.

    Raises:
        Unreadable: it is no JSON, nested too deep, or holds what is no text.
    """
    try:
        tree = json.loads(text)
        # Half of a pair of surrogates can be escaped, and then be neither printed nor written.
        json.dumps(tree, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        raise Unreadable(_line(error)) from None
    return tree


def from_yaml(text: str) -> Any:
    """What a text says, of plain types only: nothing in it is executed.

    Raises:
        Unreadable: it is no YAML, or nested too deep.
    """
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, LookupError, AttributeError, RecursionError) as error:
        # PyYAML lets through what its constructors of numbers and dates raise.
        raise Unreadable(_line(error)) from None


def _line(error: Exception) -> str:
    return "nested too deep" if isinstance(error, RecursionError) else " ".join(str(error).split())
