"""
`${NAME}`, `${NAME:-default}` and `${file:/run/secrets/x}` in values. *Cold, pure but for reading those files.*

Values are replaced after YAML has been parsed, one scalar at a time, so what a variable contains can never become
YAML. `$${` stands for `${`. A default is text up to the next brace: references do not nest.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from sidecar.config.yaml.secret_files import SecretFileError, SecretFiles

_REFERENCE: Final = re.compile(r"\$\$\{|\$\{file:([^}]*)\}|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{")

MAX_SUBSTITUTED_CHARS: Final = 10 * 1024 * 1024
"""Of all values of one file together: what the limit of the file itself is, too."""


class SubstitutionError(Exception):
    """
    A reference that cannot be replaced.

    Attributes:
        message: What is wrong.
        hint: What to do.
    """

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Environment:
    """
    The variables and files that a file may read, and how much of them it has read.

    Args:
        files: Remembers which were read.
    """

    def __init__(self, variables: Mapping[str, str], files: SecretFiles | None = None) -> None:
        self._variables = variables
        self._files = files if files is not None else SecretFiles()
        self._substituted_chars = 0

    def substitute(self, text: str) -> str:
        """
        Replace every reference in `text`.

        A variable that is set but empty counts as unset where there is a default, as in a shell.

        Raises:
            SubstitutionError: A variable is unset and has no default, is not valid Unicode, a file cannot be read, or
                a `${` is not closed.
        """
        return _REFERENCE.sub(self._value, text)

    def _value(self, match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        path, name, default = match[1], match[2], match[3]
        if path is not None:
            try:
                return self._counted(self._files.read(path))
            except SecretFileError as error:
                raise SubstitutionError(str(error), error.hint) from None
        if name is None:
            raise SubstitutionError(
                "expected `${NAME}`, `${NAME:-default}` or `${file:/path}`, found a `${` that is none of them",
                "write `$${` for a literal `${`",
            )
        if default is not None and "${" in default:
            # It would end at the first brace, and what is behind that would silently stay in the value.
            raise SubstitutionError(
                f"expected text in the default of `{name}`, found another `${{`",
                "a default cannot refer to a variable: let whoever starts the sidecar set this one",
            )
        value = self._variables.get(name)
        if default is not None and not value:
            value = default
        if value is None:
            raise SubstitutionError(
                f"the environment variable `{name}` is not set",
                f"set it, or give a default: `${{{name}:-default}}`",
            )
        try:
            value.encode()
        except UnicodeEncodeError:
            raise SubstitutionError(f"the environment variable `{name}` is not UTF-8", "set it to text") from None
        return self._counted(value)

    def _counted(self, value: str) -> str:
        self._substituted_chars += len(value)
        if self._substituted_chars > MAX_SUBSTITUTED_CHARS:
            raise SubstitutionError("variables and secrets make the file larger than 10 MiB", "use fewer of them")
        return value


class NoVariables:
    """Stands for an environment where values may not depend on one; `$${` is still the text `${`."""

    def substitute(self, text: str) -> str:
        """
        Replace `$${` in `text`.

        Raises:
            SubstitutionError: It has a reference.
        """
        return _REFERENCE.sub(self._value, text)

    def _value(self, match: re.Match[str]) -> str:
        if match[0] == "$${":
            return "${"
        raise SubstitutionError(
            f"found the variable `{match[0]}`, which this kind of file cannot have",
            "write the value: it must be the same wherever the file is read; a literal `${` is `$${`",
        )
