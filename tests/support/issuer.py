"""An OpenID provider with keys of its own, on a real socket: of a CI for its runs, or of a company for its people.

It can be made to fail in each way that providers fail: keys that change or are away, answers that hang, lead
elsewhere or are huge.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qsl

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from support.certificates import server_tls

AUDIENCE = "https://farm.test"
DISCOVERY, KEYS = "/.well-known/openid-configuration", "/keys"
AUTHORIZE, TOKEN = "/authorize", "/token"

GITHUB = {
    "jti": "5f1d2a3e-0000-4000-8000-000000000001",
    "sub": "repo:acme@411/shop@7301:ref:refs/heads/main",
    "repository": "acme/shop",
    "repository_id": "7301",
    "repository_owner": "acme",
    "repository_owner_id": "411",
    "repository_visibility": "private",
    "actor": "octavia",
    "actor_id": "9017",
    "event_name": "push",
    "ref": "refs/heads/main",
    "ref_type": "branch",
    "ref_protected": "true",
    "head_ref": "",
    "base_ref": "",
    "sha": "8f3c1d",
    "workflow": "e2e",
    "workflow_ref": "acme/shop/.github/workflows/e2e.yml@refs/heads/main",
    "job_workflow_ref": "acme/shop/.github/workflows/e2e.yml@refs/heads/main",
    "run_id": "88001",
    "run_number": "57",
    "run_attempt": "1",
    "runner_environment": "github-hosted",
}
"""The claims of a run of GitHub Actions, named as its reference of OpenID Connect names them."""

GITLAB = {
    "jti": "c82eeb0c-0000-4000-8000-000000000002",
    "sub": "project_path:acme/shop:ref_type:branch:ref:main",
    "namespace_id": "72",
    "namespace_path": "acme",
    "project_id": "20",
    "project_path": "acme/shop",
    "user_id": "1",
    "user_login": "sidney",
    "pipeline_id": "574",
    "pipeline_source": "push",
    "job_id": "302",
    "ref": "main",
    "ref_type": "branch",
    "ref_path": "refs/heads/main",
    "ref_protected": "true",
    "groups_direct": ["acme"],
    "environment": "e2e",
    "runner_id": 1,
    "runner_environment": "self-hosted",
    "sha": "714a62",
    "project_visibility": "internal",
    "ci_config_ref_uri": "gitlab.example/acme/shop//.gitlab-ci.yml@refs/heads/main",
}
"""The claims of a job of GitLab, named as its documentation of ID tokens names them."""


@dataclass(frozen=True)
class SigningKey:
    id: str
    algorithm: str
    private: Any = field(repr=False)

    @property
    def public(self) -> dict[str, Any]:
        algorithm = ECAlgorithm if self.algorithm.startswith("ES") else RSAAlgorithm
        document = algorithm.to_jwk(self.private.public_key(), as_dict=True)
        return {**document, "kid": self.id, "alg": self.algorithm, "use": "sig"}

    @property
    def public_pem(self) -> bytes:
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )


@cache
def signing_key(key_id: str, algorithm: str = "RS256") -> SigningKey:
    private = (
        ec.generate_private_key(ec.SECP256R1())
        if algorithm.startswith("ES")
        else rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    )
    return SigningKey(key_id, algorithm, private)


@dataclass
class Issuer:
    url: str = "https://ci.test"
    keys: list[SigningKey] = field(default_factory=lambda: [signing_key("first")])
    documents: dict[str, object] = field(default_factory=dict)
    """Answers by path, in place of the right ones; of bytes, as they are."""
    asked: list[str] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    redirects_to: str | None = None
    is_away: bool = False
    lets_go: Event = field(default_factory=Event)
    hangs: bool = False
    """Answers nothing until `lets_go` is set."""

    def jwks(self) -> dict[str, Any]:
        return {"keys": [key.public for key in self.keys]}

    def document(self, path: str) -> object:
        """What is at this path; None when nothing is."""
        discovery = {
            "issuer": self.url,
            "jwks_uri": f"{self.url}{KEYS}",
            "authorization_endpoint": f"{self.url}{AUTHORIZE}",
            "token_endpoint": f"{self.url}{TOKEN}",
        }
        right = {DISCOVERY: discovery, KEYS: self.jwks()}
        return {**right, **self.documents}.get(path)

    def fetch(self, address: str) -> object:
        """In place of a request to it."""
        path = address.removeprefix(self.url)
        self.asked.append(path)
        if self.is_away:
            raise OSError
        return self.document(path)

    def token(
        self,
        claims: dict[str, Any] = GITHUB,
        *,
        key: SigningKey | None = None,
        header: dict[str, Any] | None = None,
        **changed: Any,
    ) -> str:
        """A token as a run gets it. A claim that is changed to None is left out."""
        now, key = int(time.time()), key or self.keys[-1]
        times = {"iat": now, "nbf": now, "exp": now + 300}
        whole = {**claims, "iss": self.url, "aud": AUDIENCE, **times, **changed}
        return jwt.encode(
            {name: value for name, value in whole.items() if value is not None},
            key.private,
            key.algorithm,
            headers={"kid": key.id, **(header or {})},
        )


@contextmanager
def served_issuer(folder: Path, trust: Callable[[str, str], None]) -> Iterator[Issuer]:
    """An issuer on https. `trust` sets a variable of the environment, so that its certificate is trusted."""
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["content-length"])).decode()
            issuer.forms.append(dict(parse_qsl(form)))
            self.do_GET()

        def do_GET(self) -> None:
            issuer.asked.append(self.path)
            self.close_connection = True
            if issuer.hangs:
                issuer.lets_go.wait(60)
            if issuer.is_away:
                return
            document = issuer.document(self.path)
            content = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(302 if issuer.redirects_to else 404 if document is None else 200)
            if issuer.redirects_to:
                self.send_header("location", issuer.redirects_to)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing, because the output is the tests'."""

    context, certificate = server_tls(folder)
    trust("SSL_CERT_FILE", str(certificate))
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that hangs up is no news
    server.daemon_threads = True
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    issuer.url = f"https://127.0.0.1:{server.server_address[1]}"
    serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    serving.start()
    try:
        yield issuer
    finally:
        issuer.lets_go.set()
        server.shutdown()
        serving.join()
        server.server_close()
