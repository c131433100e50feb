"""The page of repositories, credential templates and known hosts."""

from typing import Any

from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from hub.access.decisions import Caller, is_allowed, reach
from hub.engine.errors import Invalid
from hub.engine.project_restrictions import normal_url
from hub.models import current_version
from hub.web.page import Shown, posted, signed_in
from projects.access.visibility import visible
from projects.api.certificates import add_certificates, known_certificates
from projects.api.repositories import repository_json, try_out
from projects.models import CredentialTemplate, GitRemote, Repository
from projects.sources.git_remotes import key_of


@require_GET
@signed_in
def index(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the repositories, with the state of their connections and their applications."""
    if not reach(caller, "repositories", "get").allow:
        raise Http404
    version = current_version()
    query = Repository.objects.order_by("url")
    rows = [r for r in query if is_allowed(caller, "repositories", "get", r.rbac_object)]
    remotes = {r.url: r for r in GitRemote.objects.all()}
    counts = visible(caller).order_by().values_list("remotes__url")
    used = dict(counts.annotate(n=Count("pk", distinct=True)))
    stored = CredentialTemplate.objects.order_by("url")
    templates = [t for t in stored if is_allowed(caller, "repositories", "get", t.url)]
    return render(
        request,
        "repositories/index.html",
        {
            "section": "repositories",
            "caller": Shown(caller),
            "version": version,
            "items": [_item(caller, row, remotes, used) for row in rows],
            "public": _public(rows, remotes, used),
            "templates": [(t, _auth(t)) for t in templates],
            "hosts": known_certificates(caller),
            "may_create": bool(reach(caller, "repositories", "create").allow),
            "may_hosts": is_allowed(caller, "certificates", "create", "*"),
        },
    )


def _item(
    caller: Caller, row: Repository, remotes: dict[str, GitRemote], used: dict[str, int]
) -> dict[str, Any]:
    key = key_of(row.url, row.project)
    actions = ("update", "delete")
    return {
        "r": row,
        "auth": _auth(row),
        "inherits": repository_json(row).get("inheritedCreds"),
        "remote": remotes.get(key),
        "used": used.get(key, 0),
        "may": {a: is_allowed(caller, "repositories", a, row.rbac_object) for a in actions},
    }


def _public(
    rows: list[Repository], remotes: dict[str, GitRemote], used: dict[str, int]
) -> list[tuple[GitRemote, int]]:
    """Return the repositories that applications read without credentials, with their number."""
    known = {normal_url(r.url) for r in rows} | {key_of(r.url, r.project) for r in rows}
    found = sorted(remotes.items())
    return [(r, used[url]) for url, r in found if url not in known and used.get(url)]


def _auth(row: Repository | CredentialTemplate) -> str:
    secret = row.credentials or {}
    words = {
        "sshPrivateKey": "an SSH key",
        "bearerToken": "a token",
        "githubAppPrivateKey": "a GitHub App",
        "tlsClientCertKey": "a client certificate",
        "gcpServiceAccountKey": "a Google service account",
        "password": "a password",
    }
    return next((text for field, text in words.items() if secret.get(field)), "")


@require_GET
@signed_in
def dialog(request: HttpRequest, caller: Caller) -> HttpResponse:
    """Show the form of a repository or a credential template."""
    kind = request.GET.get("what", "repository")
    if (
        kind not in ("repository", "template", "host", "certificate")
        or not reach(caller, "repositories", "create").allow
    ):
        raise Http404
    return render(request, f"repositories/{kind}.html", {"url": request.GET.get("url", "")[:1000]})


@posted
def try_repository(request: HttpRequest, caller: Caller) -> dict[str, str]:
    """Test the repository of the form; nothing is stored."""
    given: dict[str, Any] = {
        k: str(v).strip()[:100_000] for k, v in request.POST.items() if str(v).strip()
    }
    given |= {k: True for k in ("insecure", "enableLfs", "enableOCI") if k in given}
    try_out(caller, given)
    return {"say": f"{given['repo']} answers."}


@posted
def save_hosts(request: HttpRequest, caller: Caller) -> str:
    """Add known hosts, or the certificates of one host."""
    if request.POST.get("pem", "").strip():
        item = {
            "serverName": request.POST.get("server", "").strip(),
            "certType": "https",
            "certData": request.POST["pem"][:200_000],
        }
        add_certificates(caller, [item], upsert="upsert" in request.POST)
        return "/repositories#hosts"
    items = []
    for line in request.POST.get("lines", "")[:200_000].splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) < 3:
            raise Invalid(f"{line[:60]!r} must be a host, the kind of its key and the key")
        items.append(
            {
                "serverName": words[0],
                "certType": "ssh",
                "certSubType": words[1],
                "certData": words[2],
            }
        )
    if not items:
        raise Invalid("Enter at least one line")
    add_certificates(caller, items, upsert=True)
    return "/repositories#hosts"
