"""Hugging Face's log-in on loopback: an OpenID provider whose page asks who one is, and believes it."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT, SECRET = "client-of-the-test", "secret-of-the-test"


class OpenID:
    """Its accounts: {name: (id, access token)}."""

    def __init__(self, accounts: Mapping[str, tuple[str, str]]) -> None:
        self.accounts = dict(accounts)
        self.key = RSAKey.generate_key(2048, {"kid": "1", "use": "sig"})
        self.codes: dict[str, tuple[str, str]] = {}
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.get(self)

            def do_POST(self) -> None:
                provider.post(self)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> OpenID:
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def get(self, call: BaseHTTPRequestHandler) -> None:
        address = urlsplit(call.path)
        asked = {name: values[0] for name, values in parse_qs(address.query).items()}
        if address.path == "/.well-known/openid-configuration":
            places = {"authorization": "authorize", "token": "token", "userinfo": "userinfo"}
            own = {f"{name}_endpoint": f"{self.url}/{path}" for name, path in places.items()}
            own |= {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
            self.answer(call, {**own, "id_token_signing_alg_values_supported": ["RS256"]})
        elif address.path == "/jwks":
            self.answer(call, {"keys": [self.key.as_dict(private=False)]})
        elif address.path == "/authorize" and asked.get("client_id") == CLIENT:
            links = "".join(f'<p><a id="{name}" href="/as/{name}?{address.query}">{name}</a>' for name in self.accounts)
            self.send(call, 200, "text/html", f"<title>Log in</title>{links}".encode())
        elif address.path.startswith("/as/"):
            code = secrets.token_hex(8)
            self.codes[code] = (address.path[4:], asked["nonce"])
            call.send_response(302)
            mark = "&" if "?" in asked["redirect_uri"] else "?"
            call.send_header(
                "Location", asked["redirect_uri"] + mark + urlencode({"code": code, "state": asked["state"]})
            )
            call.end_headers()
        else:
            self.send(call, 404, "text/plain", b"")

    def post(self, call: BaseHTTPRequestHandler) -> None:
        body = parse_qs(call.rfile.read(int(call.headers["Content-Length"])).decode())
        name, nonce = self.codes.pop(body["code"][0])
        account, token = self.accounts[name]
        now = int(time.time())
        claims = {
            "iss": self.url, "aud": CLIENT, "sub": account, "nonce": nonce, "iat": now, "exp": now + 600,
            "name": name.title(), "preferred_username": name, "profile": f"{self.url}/{name}", "picture": "",
        }  # fmt: skip
        signed = jwt.encode({"alg": "RS256", "kid": "1"}, claims, self.key)
        whole = {"access_token": token, "token_type": "bearer", "expires_in": 600, "scope": "openid profile"}
        self.answer(call, {**whole, "id_token": signed})

    def answer(self, call: BaseHTTPRequestHandler, value: Any) -> None:
        self.send(call, 200, "application/json", json.dumps(value).encode())

    def send(self, call: BaseHTTPRequestHandler, status: int, kind: str, body: bytes) -> None:
        call.send_response(status)
        call.send_header("Content-Type", kind)
        call.send_header("Content-Length", str(len(body)))
        call.end_headers()
        call.wfile.write(body)
