"""A host that gives tokens to a GitHub App and to a Google service account, and checks who asks."""

import json
from urllib.parse import parse_qs

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from support.local import Local


class Tokens(Local):
    """`token` is what it gives, `requests` what it was asked; `fails` answers instead."""

    def __init__(self, token):
        super().__init__()
        self.token, self.requests, self.fails = token, [], None
        own = rsa.generate_private_key(65537, 2048)
        self.public = own.public_key()
        self.key = own.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ).decode()

    @property
    def google(self):
        """A service account's key as Google writes it."""
        return json.dumps(
            {
                "type": "service_account",
                "client_email": "hub@example.invalid",
                "private_key": self.key,
                "token_uri": f"{self.url}/token",
            }
        )

    def answer(self, handler, body):
        self.requests.append((handler.command, handler.path))
        status, found = self.fails or self.told(handler, body)
        data = found if isinstance(found, bytes) else json.dumps(found).encode()
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def told(self, handler, body):
        if handler.path == "/token":
            form = parse_qs(body.decode())
            claims = self.claims(form["assertion"][0], audience=f"{self.url}/token")
            return (
                (200, {"access_token": self.token})
                if claims
                else (400, {"error": "invalid_grant", "error_description": "Invalid JWT"})
            )
        claims = self.claims(handler.headers["Authorization"].removeprefix("Bearer "))
        if not claims or claims["iss"] != "7":
            return 401, {"message": "A JSON web token could not be decoded"}
        if handler.path.endswith("/installation"):
            return 200, {"id": 9}
        if handler.path == "/app/installations/9/access_tokens":
            return 201, {"token": self.token}
        return 404, {"message": "Not Found"}

    def claims(self, text, **more):
        try:
            return jwt.decode(text, self.public, algorithms=["RS256"], **more)
        except jwt.PyJWTError:
            return None
