"""An authorization server: signs tokens (PyJWT), publishes its keys (RFC 7517), answers introspection
(RFC 7662), by HTTPS or, without a certificate, by HTTP.

    idp.py [CERTIFICATE KEY]

Says its port on the first line. Each further line of its input is a wish in JSON, answered by a line:

    {"sign": CLAIMS, "alg": "RS256", "headers": {...}}    a token
    {"rotate": "kid"}                                     other keys from now on, by that name
    {"grant": "token", "answer": {...}}                   what introspection says of a token
    {"status": 500}                                       every request gets that; 0: as it should be
    {"asked": null}                                       how often each path was asked for
"""

import base64
import http.server
import json
import ssl
import sys
import threading
import urllib.parse

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

CLIENT, SECRET = "pombal", "a secret: with %, + and /"


class Keys:
    def __init__(self, kid):
        self.kid = kid
        by_rsa = rsa.generate_private_key(65537, 2048)
        by_ec = ec.generate_private_key(ec.SECP256R1())
        by_ed = ed25519.Ed25519PrivateKey.generate()
        self.by = {"RS256": by_rsa, "PS256": by_rsa, "ES256": by_ec, "EdDSA": by_ed}
        families = [(RSAAlgorithm, "RS256"), (ECAlgorithm, "ES256"), (OKPAlgorithm, "EdDSA")]
        self.published = [
            {**json.loads(family.to_jwk(self.by[alg].public_key())), "kid": f"{kid}-{alg}", "use": "sig"}
            for family, alg in families
        ]

    def sign(self, claims, alg, headers):
        named = "RS256" if alg == "PS256" else alg
        return jwt.encode(claims, self.by[alg], alg, {"kid": f"{self.kid}-{named}", **headers})


keys = Keys("first")
answers = {}
asked = {}
status = 0


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def say(self, code, value):
        body = json.dumps(value).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def count(self):
        asked[self.path] = asked.get(self.path, 0) + 1

    def do_GET(self):
        self.count()
        if status:
            return self.say(status, {})
        self.say(200 if self.path == "/jwks" else 404, {"keys": keys.published})

    def do_POST(self):
        self.count()
        form = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if status:
            return self.say(status, {})
        # RFC 6749 section 2.3.1.
        kind, _, who = self.headers.get("Authorization", "").partition(" ")
        pair = base64.b64decode(who).decode().split(":")
        if kind != "Basic" or [urllib.parse.unquote_plus(one) for one in pair] != [CLIENT, SECRET]:
            return self.say(401, {"error": "invalid_client"})
        [token] = urllib.parse.parse_qs(form, strict_parsing=True)["token"]
        self.say(200, answers.get(token, {"active": False}))


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
if len(sys.argv) > 1:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True)
threading.Thread(target=server.serve_forever, daemon=True).start()
print(server.server_address[1], flush=True)

for line in sys.stdin:
    wish = json.loads(line)
    said = None
    if "sign" in wish:
        said = keys.sign(wish["sign"], wish.get("alg", "RS256"), wish.get("headers", {}))
    elif "rotate" in wish:
        keys = Keys(wish["rotate"])
    elif "grant" in wish:
        answers[wish["grant"]] = wish["answer"]
    elif "status" in wish:
        status = wish["status"]
    elif "asked" in wish:
        said = asked
    print(json.dumps(said), flush=True)
