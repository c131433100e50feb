"""The OpenAPI description of the REST surface."""

import re
from typing import Any

from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema

from hub.rest.query_parameters import parameters


class TokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The token as bearer header; the cookie is for browsers."""

    target_class = "hub.rest.framework.TokenAuthentication"
    name = "token"

    def get_security_definition(self, _auto_schema: Any) -> dict[str, str]:
        """Return the scheme."""
        return {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}


class Schema(AutoSchema):
    """Names operations by method and path, so that names are unique."""

    def get_operation_id(self) -> str:
        """Return the name."""
        words = re.findall(r"[A-Za-z0-9]+", self.path.removeprefix("/api"))
        return "_".join([self.method.lower(), *words])


_ERRORS = {
    "400": "The request is wrong: the message names the field and the next step.",
    "401": "The request is not authenticated.",
    "403": "Not allowed, or not there.",
    "404": "It is not there.",
    "405": "The path does not take this method.",
    "409": "It contradicts what is stored or running.",
    "410": "The version to resume from has expired: start again with a list.",
    "413": "The body is too large.",
    "415": "The body must be application/json.",
    "429": "Too many requests.",
    "501": "What the path is for is switched off.",
    "503": "Something that the hub needs does not answer: try again.",
}


def with_errors(result: Any, generator: Any, request: Any, public: Any) -> Any:
    """Add the query parameters, and the errors with their shape, to every operation."""
    del generator, request, public
    schemas = result.setdefault("components", {}).setdefault("schemas", {})
    schemas["Error"] = {
        "type": "object",
        "required": ["error", "message", "code", "details"],
        "properties": {
            "error": {"type": "string"},
            "message": {"type": "string"},
            "code": {"type": "integer", "description": "gRPC code"},
            "details": {"type": "array", "items": {}},
        },
    }
    shape = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for path, operations in result["paths"].items():
        for method, operation in operations.items():
            known = {p["name"] for p in operation.get("parameters", [])}
            more = [p for p in parameters(method, path) if p["name"] not in known]
            operation["parameters"] = [*operation.get("parameters", []), *more]
            for code, text in _ERRORS.items():
                operation["responses"].setdefault(code, {"description": text, "content": shape})
    return result
