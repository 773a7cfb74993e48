"""Parses JSON bodies and query strings into the members of a request, not validated yet."""

from __future__ import annotations

from codecs import BOM_UTF8
from collections.abc import Callable, Collection
from typing import Any, Final, NoReturn
from urllib.parse import parse_qsl, unquote_plus

import orjson

from offload.core.outcome import Reason
from offload.tasks.arguments.content_type import FORM, UNKNOWN, URL_ENCODED, ContentType
from offload.tasks.arguments.errors import ArgumentError, ErrorsByName, invalid_arguments, repeated
from offload.tasks.arguments.json_text import Body, RepeatedMembers, read_json
from offload.tasks.faults import Fault, pointer_to, shortened

_MAX_DETAIL_LENGTH: Final = 300
_MAX_NAME_LENGTH: Final = 100
_REMEDY: Final = 'Send the arguments as the members of one JSON object, such as {"limit": 30}'
_MAX_QUERY_FIELDS: Final = 1_000


def parse_object(
    body: Body, content_type: ContentType = UNKNOWN, read: Callable[[Body], Any] = read_json
) -> dict[str, Any]:
    """Returns the members of the JSON object in `body`, read by `read`; an empty body has none.

    Integers keep their value at any length. Raises Fault `invalid-json` with the byte offset as `position`, or
    `invalid-arguments` for repeated members.
    """
    if not len(body):
        return {}
    if content_type is not UNKNOWN and content_type.other_charset and not bytes(body).isascii():
        charset = shortened(content_type.other_charset, _MAX_NAME_LENGTH)
        raise _invalid_json(f"The body declares the charset {charset!r}, but JSON is read as UTF-8", 0)
    try:
        value = read(body)
    except orjson.JSONDecodeError as error:
        if content_type.media_type == URL_ENCODED:
            raise url_encoded(Reason.INVALID_JSON, _REMEDY, position=0) from None
        _raise_malformed(body, error)
    except RecursionError:
        raise _invalid_json("The JSON body is nested too deeply", 0) from None
    except RepeatedMembers as error:
        raise invalid_arguments(list(map(repeated, error.paths))) from None
    except ValueError as error:  # the interpreter's limit on digits, unless the worker lifted it
        raise _invalid_json(f"The JSON body cannot be read: {shortened(str(error), _MAX_DETAIL_LENGTH)}", 0) from None
    if not isinstance(value, dict):
        raise _invalid_json("The JSON body is not an object", 0)
    return value


def parse_query(query: str, several: Collection[str]) -> dict[str, Any]:
    """Returns the fields of a query string as text; those in `several`, and repeated ones, as lists."""
    try:
        fields = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=_MAX_QUERY_FIELDS)
    except UnicodeDecodeError:
        raise invalid_arguments([ArgumentError("", "The query string must be percent-encoded UTF-8")]) from None
    except ValueError:
        problem = f"The query string may have at most {_MAX_QUERY_FIELDS:,} fields"
        raise invalid_arguments([ArgumentError("", problem)]) from None
    values: dict[str, list[str]] = {}
    for name, value in fields:
        values.setdefault(name, []).append(value)
    return {name: given if len(given) > 1 or name in several else given[0] for name, given in values.items()}


def unread(query: str, names: Collection[str] | None, remedy: str) -> ErrorsByName:
    """Returns an error for each argument in a query string that the task does not read.

    `names` are those of the arguments, None if any name may be one. Other fields are ignored: proxies and links add
    their own.
    """
    detail = f"This argument is in the query string, which is not read. {remedy}"
    given = dict(parse_qsl(query, keep_blank_values=True, errors="replace"))
    return {name: [ArgumentError(pointer_to(name), detail)] for name in given if names is None or name in names}


def is_url_encoded(body: Body, names: Collection[str]) -> bool:
    """Returns whether a body that declares a URL-encoded form is one of these arguments, not the data itself.

    `curl --data-binary` declares the same type for any data.
    """
    first, equals, _ = bytes(body[:_MAX_NAME_LENGTH]).partition(b"=")
    if not equals or unquote_plus(first.decode("latin-1")) not in names:
        return False
    fields = parse_qsl(bytes(body).decode("latin-1"), keep_blank_values=True)
    return all(name in names for name, _ in fields)


def url_encoded(reason: Reason, remedy: str, **fields: Any) -> Fault:
    """Returns the fault for a URL-encoded form, which no task takes."""
    return Fault(
        reason,
        detail=f"The body is a URL-encoded form ({URL_ENCODED}), which is not supported. {remedy}; "
        f"or send a form as {FORM}.",
        **fields,
    )


def _raise_malformed(body: Body, error: orjson.JSONDecodeError) -> NoReturn:
    if bytes(body[: len(BOM_UTF8)]) == BOM_UTF8:
        raise _malformed_json("the text begins with a byte order mark", 0) from None
    try:
        bytes(body).decode("utf-8")
    except UnicodeDecodeError as wrong:
        raise _malformed_json("the text is not valid UTF-8", wrong.start) from None
    position = len(error.doc[: error.pos].encode("utf-8"))
    raise _malformed_json(shortened(error.msg, _MAX_DETAIL_LENGTH), position) from None


def _malformed_json(problem: str, position: int) -> Fault:
    return _invalid_json(f"Malformed JSON at byte {position:,}: {problem}", position)


def _invalid_json(problem: str, position: int) -> Fault:
    return Fault(
        Reason.INVALID_JSON,
        detail=f"{problem}. {_REMEDY}.",
        position=position,
    )
