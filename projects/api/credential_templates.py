"""REST API of credential templates, which apply to all repositories below a URL."""

from collections.abc import Mapping
from typing import Any

from django.db import transaction
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from hub.access.decisions import hide, is_allowed, require
from hub.audit import trail
from hub.engine.errors import Invalid
from hub.engine.project_restrictions import normal_url
from hub.rest.lists import arranged
from hub.rest.views import View, actor, asked, body_map, flag, must_agree, text_at
from projects.api.repositories import kind_of, refresh_readers, split_fields
from projects.models import CredentialTemplate, GitRemote
from projects.objects.specs import check_repository_url


def template_json(row: CredentialTemplate) -> dict[str, Any]:
    """Return a credential template without its credentials."""
    return {
        "url": row.url,
        "type": row.kind,
        **{k: v for k, v in row.options.items() if k != "proxy"},
    }


class Templates(View):
    """`/repocreds`: list and create credential templates."""

    permission = ("repositories", "get")

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def get(self, request: Request) -> Response:
        """List the templates."""
        caller = actor(request)
        items = [
            template_json(t)
            for t in CredentialTemplate.objects.order_by("url")
            if is_allowed(caller, "repositories", "get", t.url)
        ]
        answer = {"items": items, "metadata": {}}
        return Response(arranged(request, answer, {"url": "url", "type": "type"}, ["url"]))

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def post(self, request: Request) -> Response:
        """Create a template; `upsert` replaces an existing one."""
        require(actor(request), "repositories", "create", text_at(asked(request), "url"))
        body = body_map(request)
        url = check_repository_url(body.get("url"))
        existing = CredentialTemplate.objects.filter(url=url).first()
        if existing:
            require(actor(request), "repositories", "update", url)
        if existing and not (flag(request, "upsert") or body.get("upsert")):
            raise Invalid(
                "existing repository credentials spec is different, use upsert flag to force update"
            )
        return Response(template_json(_save_template(existing, url, body, actor(request).name)))


def _save_template(
    existing: CredentialTemplate | None, url: str, body: Mapping[str, Any], who: str
) -> CredentialTemplate:
    secret, options = split_fields(body)
    with transaction.atomic():
        row = existing or CredentialTemplate(url=url)
        row.kind, row.credentials, row.options = kind_of({**body, "repo": url}), secret, options
        row.save()
        trail.record(
            who,
            "update" if existing else "create",
            "repocreds",
            url,
            fields=sorted([*secret, *options]),
        )
        for remote in GitRemote.objects.filter(url__istartswith=normal_url(url)):
            refresh_readers(remote.url)
    return row


class OneTemplate(View):
    """`/repocreds/{url}`: replace and delete."""

    permission = ("repositories", "update")

    def _row(self, request: Request, url: str, action: str) -> CredentialTemplate:
        caller = actor(request)
        found = CredentialTemplate.objects.filter(url=url).first()
        if found is None or not is_allowed(caller, "repositories", "get", url):
            raise hide(caller, "repositories", action, url)
        require(caller, "repositories", action, url)
        return found

    @extend_schema(request=OpenApiTypes.OBJECT, responses=OpenApiTypes.OBJECT)
    def put(self, request: Request, url: str) -> Response:
        """Replace a template."""
        row = self._row(request, url, "update")
        body = body_map(request)
        must_agree(url, body.get("url"), "url")
        return Response(template_json(_save_template(row, url, body, actor(request).name)))

    @extend_schema(responses=OpenApiTypes.OBJECT)
    def delete(self, request: Request, url: str) -> Response:
        """Delete a template."""
        row = self._row(request, url, "delete")
        with transaction.atomic():
            row.delete()
            trail.record(actor(request).name, "delete", "repocreds", url)
        return Response({})
