"""The OpenAPI document, made of the table of endpoints and the types they speak of.

`python -m headgate.admin.openapi > docs/openapi.json`; a test holds the file to the table.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec

from headgate.admin.endpoint import JSON, Endpoint
from headgate.admin.wire import Error

_REFERENCE = "#/components/schemas/{name}"
_DESCRIPTION = (
    "Looks at a running balancer and changes it. Over a unix socket the kernel says who asks; over TCP every request "
    "but those for /livez and /readyz carries `Authorization: Bearer TOKEN`. A connection carries one request. Parts "
    "of a path are percent-encoded: a backend may be named by its URL."
)
# What every request may be answered with. (421 and 403 are about names and pages of other origins: docs/admin-api.md.)
_ALWAYS = {
    400: "The request is malformed.",
    401: "The token is missing or wrong.",
    403: "Not from here: another user, or a page of another origin.",
    408: "The request did not come in time.",
    421: "The name asked under is not one of ours.",
    431: "The head is too large.",
    500: "A mistake of ours; the log has it.",
    503: "Too many requests at a time.",
}
_WITH_BODY = {
    413: "The body is too large.",
    415: "The body is not declared as application/json.",
    422: "The body is not what is expected, or cannot be done; `reason` says why.",
}


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """The whole document (OpenAPI 3.1)."""
    rows = [one for one in endpoints if one.listed]
    types: list[Any] = [Error]
    for row in rows:
        types += [kind for kind in (row.body, row.query) if kind is not None]
        if not isinstance(row.answer, str):
            types.append(row.answer)
    schemas, components = msgspec.json.schema_components(types, ref_template=_REFERENCE)
    by_type = dict(zip(map(_key, types), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for row in rows:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, by_type, components)
    queries = {kind.__name__ for row in rows if (kind := row.query) is not None}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headgate admin API",
            "version": "1",
            "description": _DESCRIPTION,
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {name: schema for name, schema in sorted(components.items()) if name not in queries},
        },
    }


def _key(kind: Any) -> str:
    return str(kind)


def _operation(row: Endpoint, by_type: dict[str, Any], components: dict[str, Any]) -> dict[str, Any]:
    operation: dict[str, Any] = {"operationId": _name(row), "summary": row.summary}
    if row.open_to_all:
        operation["security"] = []
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in row.params
    ]
    if row.query is not None:
        for name, schema in components[row.query.__name__]["properties"].items():
            text = schema.get("description")
            shown = {key: value for key, value in schema.items() if key != "description"}
            parameter = {"name": name, "in": "query", "required": False, "schema": shown}
            parameters.append(parameter if text is None else {**parameter, "description": text})
    if parameters:
        operation["parameters"] = parameters
    if row.body is not None:
        operation["requestBody"] = {
            "required": not row.body_optional,
            "content": {JSON: {"schema": by_type[_key(row.body)]}},
        }
    operation["responses"] = _responses(row, by_type)
    return operation


def _responses(row: Endpoint, by_type: dict[str, Any]) -> dict[str, Any]:
    if isinstance(row.answer, str):
        answer: Any = {row.answer.partition(";")[0]: {"schema": {"type": "string"}}}
    else:
        answer = {JSON: {"schema": by_type[_key(row.answer)]}}
    responses = {str(row.status): {"description": HTTPStatus(row.status).phrase, "content": answer}}
    always = {status: text for status, text in _ALWAYS.items() if not (row.open_to_all and status in (401, 421))}
    # Any request may come with a body.
    for status, text in sorted({**always, **_WITH_BODY, **row.refuses}.items()):
        error = {JSON: {"schema": {"$ref": _REFERENCE.format(name="Error")}}}
        if row.open_to_all and status == 503:
            error |= answer
        responses.setdefault(str(status), {"description": text, "content": error})
    return responses


def _name(row: Endpoint) -> str:
    words = [word.strip("{}").replace(".", "-") for word in row.path.split("/") if word]
    return "-".join([row.method.lower(), *(words or ["index"])])


def render() -> bytes:
    """The document as it stands in docs/openapi.json."""
    from headgate.admin.table import TABLE

    return msgspec.json.format(msgspec.json.encode(document(TABLE.endpoints)), indent=1) + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(render())
