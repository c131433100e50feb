"""A SAML 2.0 identity provider: it signs what a test wants it to say."""

import base64
import datetime as dt
import http.server
import secrets
import threading
import zlib
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from lxml import etree
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Names
from onelogin.saml2.utils import OneLogin_Saml2_Utils

ENTITY = "https://idp.example/saml"


class SAMLProvider:
    def __init__(self, url="https://idp.example/sso"):
        self.url = url
        self.key, self.certificate = self._pair()
        self.person = {"subject": "u-1", "email": "dev@example.com", "groups": ["team-a"]}

    @staticmethod
    def _pair():
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "idp")])
        now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now)
            .not_valid_after(now + dt.timedelta(days=3650))
            .sign(key, hashes.SHA256())
        )
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return pem.decode(), certificate.public_bytes(serialization.Encoding.PEM).decode()

    def config(self, **changes):
        return {
            "entityID": ENTITY,
            "ssoURL": self.url,
            "certificate": self.certificate,
            "groupsAttribute": "groups",
            "emailAttribute": "email",
            **changes,
        }

    def request_of(self, location):
        """Return the id and the answer URL of a request that a browser is sent with."""
        packed = parse_qs(urlsplit(location).query)["SAMLRequest"][0]
        root = etree.fromstring(zlib.decompress(base64.b64decode(packed), -15))
        return root.get("ID"), root.get("AssertionConsumerServiceURL")

    def response(
        self,
        request_id,
        acs,
        *,
        audience,
        sign="assertion",
        issuer=ENTITY,
        minutes=5,
        person=None,
        entity="",
        key=None,
        **said,
    ):
        """Return a response in base64; `sign` is assertion, response, both or nothing.

        Shapes: `said` replaces what the parts say of themselves: `recipient`, `destination`,
            `confirmed` (the request in the assertion), `ends`, `method`, `not_before`
            and `algorithms`.
        """
        who = {**self.person, **(person or {})}
        now = dt.datetime.now(dt.UTC)

        def stamp(delta):
            return (now + dt.timedelta(minutes=delta)).strftime("%Y-%m-%dT%H:%M:%SZ")

        def mark(name, value):
            return f' {name}="{value}"' if value else ""

        answers = mark("InResponseTo", request_id)
        confirmed = mark("InResponseTo", said.get("confirmed", request_id))
        recipient = mark("Recipient", said.get("recipient", acs))
        ends = mark("NotOnOrAfter", said.get("ends", stamp(minutes)))
        method = said.get("method", "urn:oasis:names:tc:SAML:2.0:cm:bearer")
        restriction = (
            (
                f"<saml:AudienceRestriction><saml:Audience>{audience}</saml:Audience></"
                "saml:AudienceRestriction>"
            )
            if audience
            else ""
        )
        algorithms = said.get("algorithms", ())
        groups = "".join(f"<saml:AttributeValue>{g}</saml:AttributeValue>" for g in who["groups"])
        assertion = (
            f'<saml:Assertion xmlns:saml="{Names.NS_SAML}" ID="_{secrets.token_hex(16)}" '
            f'Version="2.0" IssueInstant="{stamp(0)}"><saml:Issuer>{issuer}</saml:Issuer>'
            "<saml:Subject><saml:NameID "
            f'Format="urn:oasis:names:tc:SAML:2.0:nameid-format:persistent">{who["subject"]}</'
            "saml:NameID>"
            "<saml:SubjectConfirmation "
            f'Method="{method}"><saml:SubjectConfirmationData{ends}{recipient}{confirmed}/></'
            "saml:SubjectConfirmation></saml:Subject>"
            f'<saml:Conditions NotBefore="{stamp(said.get("not_before", -10))}" '
            f'NotOnOrAfter="{stamp(minutes)}">{restriction}</saml:Conditions>'
            f'<saml:AuthnStatement AuthnInstant="{stamp(0)}" SessionIndex="s1"><saml:AuthnContext><saml:AuthnContextClassRef>urn:oasis:names:tc:SAML:2.0:ac:classes:Password</saml:AuthnContextClassRef></saml:AuthnContext></saml:AuthnStatement>'
            "<saml:AttributeStatement><saml:Attribute "
            f'Name="email"><saml:AttributeValue>{who["email"]}</saml:AttributeValue></'
            "saml:Attribute>"
            f'<saml:Attribute Name="groups">{groups}</saml:Attribute></'
            "saml:AttributeStatement></saml:Assertion>"
        )
        if sign in ("assertion", "both"):
            assertion = OneLogin_Saml2_Utils.add_sign(
                assertion, key or self.key, self.certificate, False, *algorithms
            ).decode()
            assertion = assertion.partition("?>")[2] if assertion.startswith("<?xml") else assertion
        text = (
            f'<samlp:Response xmlns:samlp="{Names.NS_SAMLP}" xmlns:saml="{Names.NS_SAML}" ID="_{secrets.token_hex(16)}" Version="2.0" IssueInstant="{stamp(0)}"{mark("Destination", said.get("destination", acs))}{answers}>'
            f"<saml:Issuer>{issuer}</saml:Issuer><samlp:Status><samlp:StatusCode "
            f'Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>{assertion}</'
            "samlp:Response>"
        )
        if sign in ("response", "both"):
            text = OneLogin_Saml2_Utils.add_sign(text, key or self.key, self.certificate).decode()
        return base64.b64encode((entity + text).encode()).decode()


class SAMLServer(SAMLProvider):
    """The same over HTTP: it knows one person and posts back at once, as a browser sees it."""

    def __init__(self, audience_of):
        provider = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                request_id, acs = provider.request_of(self.path)
                answer = provider.response(request_id, acs, audience=audience_of(acs))
                body = (
                    f'<!doctype html><form method=post action="{acs}"><input type=hidden '
                    f'name=SAMLResponse value="{answer}">'
                    "<button>Go on as dev</button></form>"
                ).encode()
                self.send_response(200)
                self.send_header("Content-Type", "text/html")
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
        super().__init__(f"http://localhost:{self.server.server_port}/sso")
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
