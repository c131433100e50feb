"""The page of identity providers, with the same checks as the REST API."""

from typing import Any

import yaml
from django.http import (
    HttpRequest,
    HttpResponse,
)
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from hub.access.decisions import Caller, require
from hub.auth import oidc, providers
from hub.auth.provider_setup import callback_url, check_provider
from hub.base.yaml_json import load_yaml
from hub.engine.errors import (
    EngineError,
    Invalid,
)
from hub.web.page import Shown, signed_in


@require_http_methods(["GET", "POST"])
@signed_in
def sso_settings(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show and edit the identity providers."""
    require(caller, "settings", "get", "sso")
    form, error, done = _form(request.GET.get("edit", "")), "", ""
    if request.method == "POST":
        require(caller, "settings", "update", "sso")
        try:
            done = _change(request, caller)
        except (Invalid, EngineError, oidc.SignInError) as problem:
            error, form = (
                str(problem),
                {**form, **request.POST.dict(), "enabled": "enabled" in request.POST},
            )
    shown = [
        {
            **p.as_json(),
            "facts": [
                (k, v)
                for k, v in p.as_json()["config"].items()
                if k not in ("rootCA", "certificate")
            ],
            "callback": callback_url(request, p),
        }
        for p in providers.all_providers()
    ]
    return render(
        request,
        "settings/sso.html",
        {
            "section": "sso",
            "caller": Shown(caller),
            "providers": shown,
            "form": form,
            "error": error,
            "done": done,
        },
        status=400 if error else 200,
    )


def _form(slug: str) -> dict[str, Any]:
    found = next(
        (p for p in providers.all_providers() if p.slug == slug and p.origin == "settings"), None
    )
    if found is None:
        return {
            "id": "",
            "name": "",
            "type": "oidc",
            "config": "issuer: https://\nclientID: \nclientSecret: \n",
            "enabled": True,
        }
    shown = found.as_json()
    text = yaml.safe_dump(shown["config"], sort_keys=False)
    return {
        "id": found.slug,
        "name": found.name,
        "type": found.protocol,
        "config": text,
        "enabled": found.enabled,
    }


def _change(request: HttpRequest, caller: Caller) -> str:
    if request.POST.get("delete"):
        providers.delete(request.POST["delete"], caller.name)
        return f"{request.POST['delete']} was removed."
    if request.POST.get("test"):
        return check_provider(request.POST["test"])
    config = load_yaml(request.POST.get("config", ""), "Settings")
    config = (
        {k: v for k, v in config.items() if v not in (None, "")}
        if isinstance(config, dict)
        else config
    )
    saved = providers.save(
        {
            "id": request.POST.get("id"),
            "name": request.POST.get("name"),
            "type": request.POST.get("type"),
            "config": config,
            "enabled": "enabled" in request.POST,
        },
        caller.name,
    )
    return f"{saved.name} was saved."
