"""A browser on its way through single sign-on, and what a provider's answer made of it."""

from urllib.parse import parse_qs, urlsplit

from django.test import Client

AUDIENCE = "http://localhost/sso/saml/company/metadata/"


def register(hub, config, slug="company", kind="oidc", status=200):
    return hub.put(
        f"/api/v1/flotilla/sso/providers/{slug}",
        {"name": "Company", "type": kind, "config": config},
        status=status,
    )


class Visit:
    """A browser on its way to the provider."""

    def __init__(self, slug="company", **query):
        self.browser = Client(HTTP_HOST="localhost")
        self.answer = self.browser.get(f"/sso/{slug}/login", query)
        self.location = self.answer.get("Location", "")
        self.query = {k: v[0] for k, v in parse_qs(urlsplit(self.location).query).items()}

    def come_back(self, slug="company", **changes):
        return self.browser.get(
            f"/sso/{slug}/callback", {"code": "c", "state": self.query.get("state", ""), **changes}
        )


def is_in(answer):
    return answer.status_code == 302 and "argocd.token" in answer.cookies


def begin(saml):
    browser = Client(HTTP_HOST="localhost")
    answer = browser.get("/sso/company/login", follow=False)
    answer = browser.get(answer["Location"])
    assert answer["Location"].startswith(saml.url)
    return browser, *saml.request_of(answer["Location"])


def finish(browser, response, slug="company"):
    answer = browser.post(f"/sso/saml/{slug}/acs/", {"SAMLResponse": response})
    return browser.get(answer["Location"]) if answer.status_code == 302 else answer
