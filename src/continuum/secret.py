"""Secrets: texts that come to the file for the machine, and to nothing else.

A `Secret` shows as `***` wherever it is printed, dumped or put into a message; it is opened only
where the file for the machine is written. Its type, or the name of its key, makes a value secret:
packages of others may hold passwords in settings that are plain texts.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

MASK = "***"

ENVIRONMENT = "environment"
"""The table of variables for programs: all its values are secret."""

_WORDS = (
    *("pass", "passwd", "password", "passphrase", "passcode", "secret", "token"),
    *("credential", "auth", "authorization", "bearer", "cookie", "webhook"),
    *("api_?key", "access_?key", "private_?key", "secret_?key", "ssh_?key", "licen[cs]e_?key"),
)
_NAME = re.compile(rf"(?:^|_)(?:{'|'.join(_WORDS)})s?(?:$|_)")
_NO_VALUE = re.compile(r"_(?:file|from|path|folder|type|name)s?$")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

_LOGIN = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]*://)(?P<login>[^\s/?#'\"<>]+)@", re.IGNORECASE)
_WITH_TOKEN = re.compile(r"(?:git\+)?https?://", re.IGNORECASE)

_SHORT = 6
"""Letters. What is shorter, as `on`, stands in other texts by chance."""

_UNIQUE = 16
"""Letters from which a text without digits is no word of the language either."""


class Secret:
    """A text that is shown as `***`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def open(self) -> str:
        """The text itself, for the file that the machine gets."""
        return self._text

    def digest(self, key: bytes) -> str:
        """32 hexadecimal digits that differ for another text; no use to whoever lacks the key."""
        return hmac.new(key, self._text.encode(), hashlib.sha256).hexdigest()[:32]

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"Secret('{MASK}')"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, _: object) -> Secret:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not written anywhere, so it cannot be pickled")

    @classmethod
    def __get_pydantic_core_schema__(cls, _: object, __: GetCoreSchemaHandler) -> CoreSchema:
        from pydantic_core import core_schema  # noqa: PLC0415  slow to import; only models need it

        return core_schema.no_info_plain_validator_function(
            cls._validated,
            serialization=core_schema.plain_serializer_function_ser_schema(
                str, return_schema=core_schema.str_schema()
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, _: CoreSchema, __: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        return {"type": "string", "format": "password", "writeOnly": True}

    @classmethod
    def _validated(cls, value: object) -> Secret:
        from pydantic_core import PydanticKnownError  # noqa: PLC0415

        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls(value)
        raise PydanticKnownError("string_type")


# -- which values are secret ----------------------------------------------------------------------


def is_secret_name(name: str) -> bool:
    """Tell whether a key of that name holds a secret: `password`, `api_key`, `accessToken`, …."""
    plain = _HUMP.sub("_", name).lower().replace("-", "_").replace(" ", "_")
    return _NAME.search(plain) is not None and _NO_VALUE.search(plain) is None


def is_secret_path(path: Iterable[str | int]) -> bool:
    """Tell whether what stands at this path of an experiment is secret by the names on the way."""
    return any(
        part == ENVIRONMENT or is_secret_name(part) for part in path if isinstance(part, str)
    )


def sealed(value: Any, path: tuple[str | int, ...] = (), *, whole: bool = False) -> Any:  # noqa: ANN401
    """A value of a file with its secret texts as `Secret`; `whole`: all of its texts are."""
    secret = whole or is_secret_path(path[-1:])
    if isinstance(value, dict):
        return {key: sealed(each, (key,), whole=secret) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(sealed(each, whole=secret) for each in value)
    return Secret(value) if secret and isinstance(value, str) else value


def opened(value: Any) -> Any:  # noqa: ANN401  values of a file have any type
    """The same value with its secrets as texts, for whoever checks or uses them."""
    if isinstance(value, Mapping):
        return {key: opened(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(opened(each) for each in value)
    return value.open() if isinstance(value, Secret) else value


def shown(value: Any, *, whole: bool = False) -> Any:  # noqa: ANN401  values of a file have any type
    """The same value as others may see it: secrets, numbers of secret names, logins in addresses."""
    if isinstance(value, Mapping):
        return {
            key: shown(each, whole=whole or is_secret_path((str(key),)))
            for key, each in value.items()
        }
    if isinstance(value, list | tuple):
        return [shown(each, whole=whole) for each in value]
    if isinstance(value, Secret) or (whole and value is not None and not isinstance(value, bool)):
        return MASK
    return without_logins(value) if isinstance(value, str) else value


def texts(value: object) -> Iterator[str]:
    """Every secret text in a value."""
    if isinstance(value, Mapping):
        for each in value.values():
            yield from texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from texts(each)
    elif isinstance(value, Secret):
        yield value.open()
    elif hasattr(type(value), "model_fields"):
        yield from texts(vars(value))


def without_secrets(arguments: Iterable[str]) -> list[str]:
    """Arguments of a command line with `***` for the values that `--set` gives to secret keys."""
    return [_without_value(each) for each in arguments]


def _without_value(argument: str) -> str:
    key, equals, _ = argument.removeprefix("--set=").partition("=")
    if not equals or not is_secret_path(key.split(".")):
        return argument
    return f"{argument[: len(argument) - len(argument.removeprefix('--set='))]}{key}={MASK}"


# -- texts from outside ---------------------------------------------------------------------------


def without_logins(text: str) -> str:
    """A text with user and password taken out of the addresses in it.

    `https://TOKEN@host` names no password, but a package index takes it for one; the user of
    `ssh://user@host` is no secret.
    """

    def masked_login(match: re.Match[str]) -> str:
        secret = ":" in match["login"] or _WITH_TOKEN.fullmatch(match["scheme"])
        return f"{match['scheme']}{MASK}@" if secret else match[0]

    return _LOGIN.sub(masked_login, text) if "://" in text else text


def is_distinct(text: str) -> bool:
    """Tell whether a secret stands in no other text by chance: `endpoint` and `10` may."""
    if len(text) < _SHORT:
        return False
    letters = any(each.isalpha() for each in text)
    others = any(not each.isalpha() and each not in " -_./" for each in text)
    return len(text) >= _UNIQUE or (letters and others)


class Masked:
    """Takes known secrets and logins out of texts that come from programs."""

    def __init__(self) -> None:
        self._known: tuple[str, ...] = ()

    def add(self, secrets: Iterable[str]) -> None:
        """Mask these from now on, where they are not words that texts hold by chance."""
        more = (form for each in secrets if is_distinct(each) for form in _forms(each))
        # The longest first: one may be a part of another.
        self._known = tuple(sorted({*self._known, *more}, key=len, reverse=True))

    def forget(self) -> None:
        """Know no secret any more: another command begins."""
        self._known = ()

    def __call__(self, text: str) -> str:
        """The text as others may see it."""
        for each in self._known:
            text = text.replace(each, MASK)
        return without_logins(text)

    def values(self, value: Any) -> Any:  # noqa: ANN401  what JSON can hold
        """The same for all texts in a value; keys stay."""
        if isinstance(value, dict):
            return {key: self.values(each) for key, each in value.items()}
        if isinstance(value, list):
            return [self.values(each) for each in value]
        return self(value) if isinstance(value, str) else value


def without(text: str, secrets: Iterable[str]) -> str:
    """A text with `***` for each of these, whatever they are, also as JSON and Python write them."""
    forms = {form for each in secrets if each for form in _forms(each)}
    # The longest first: one may be a part of another.
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, MASK)
    return text


def _forms(text: str) -> set[str]:
    """A secret as it is, as JSON and Python write it, and as JSON writes what is JSON already."""
    import json  # noqa: PLC0415  few commands know a secret

    found = {text, repr(text)[1:-1]}
    for kept in (True, False):
        once = json.dumps(text, ensure_ascii=kept)[1:-1]
        found |= {once, json.dumps(once, ensure_ascii=kept)[1:-1]}
    return found | {line for line in text.splitlines() if is_distinct(line)}


masked = Masked()
"""Filter of all that this process shows and keeps: terminal, logs, records of a run."""
