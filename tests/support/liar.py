"""An OpenID Connect provider that says whatever a test wants, true or not."""

import http.server
import json
import ssl
import threading
import time

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

# Keys of providers that have closed, for later ones: no two at the same time have the same.
_FREE = []


def _pair():
    return tuple(rsa.generate_private_key(public_exponent=65537, key_size=2048) for _ in range(2))


class Liar:
    def __init__(self, certificate=None):
        self.key, self.other = _FREE.pop() if _FREE else _pair()
        self.tokens, self.info, self.seen, self.replies, self.metadata = {}, {}, [], {}, {}
        liar = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def _answer(self):
                length = int(self.headers.get("Content-Length") or 0)
                liar.seen.append(
                    (self.command, self.path, self.rfile.read(length).decode(), dict(self.headers))
                )
                status, body, headers = liar.reply(self.path)
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    for part in body if isinstance(body, list) else [body]:
                        self.wfile.write(
                            part if isinstance(part, bytes) else json.dumps(part).encode()
                        )
                except OSError:
                    pass

            def do_GET(self):
                self._answer()

            def do_POST(self):
                self._answer()

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://localhost:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def reply(self, path):
        path = path.partition("?")[0]
        if path in self.replies:
            found = self.replies[path]
            return found if isinstance(found, tuple) else (200, found, {})
        if path.endswith("openid-configuration"):
            return (
                200,
                {
                    "issuer": self.url,
                    "authorization_endpoint": f"{self.url}/authorize",
                    "token_endpoint": f"{self.url}/token",
                    "jwks_uri": f"{self.url}/keys",
                    "userinfo_endpoint": f"{self.url}/userinfo",
                    **self.metadata,
                },
                {},
            )
        if path == "/keys":
            return (
                200,
                {
                    "keys": [
                        {
                            **json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key())),
                            "kid": "k1",
                            "use": "sig",
                        }
                    ]
                },
                {},
            )
        if path == "/token":
            return 200, self.tokens, {}
        if path == "/userinfo":
            return 200, self.info, {}
        return 404, {}, {}

    def public_pem(self):
        return self.key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def say(self, *, key=None, algorithm="RS256", kid="k1", without=(), header=None, **claims):
        """Have the token endpoint answer with an ID token of these claims."""
        now = int(time.time())
        full = {"iss": self.url, "sub": "u1", "aud": "hub", "iat": now, "exp": now + 300, **claims}
        full = {k: v for k, v in full.items() if k not in without}
        token = jwt.encode(
            full,
            self.key if key is None else key,
            algorithm=algorithm,
            headers={**({"kid": kid} if kid else {}), **(header or {})},
        )
        self.tokens = {"access_token": "CANARY-access", "token_type": "Bearer", "id_token": token}

    def close(self):
        self.server.shutdown()
        _FREE.append((self.key, self.other))
        self.server.server_close()
