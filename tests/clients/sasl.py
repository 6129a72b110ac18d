"""Every mechanism that is offered in clear, over POP3, IMAP and submission, by Python's own clients.

SCRAM is done here, by hashlib, so that the server is held against somebody else's arithmetic.
"""
# needs: python3

import base64
import hashlib
import hmac
import imaplib
import os
import poplib
import smtplib

HOST = os.environ["HOST"]
USER = os.environ["USER_ADDRESS"]
PASSWORD = os.environ["PASSWORD"]


def b64(octets):
    return base64.b64encode(octets)


class Scram:
    """RFC 5802 §3, the client's side."""

    def __init__(self, password=PASSWORD, user=USER):
        name = user.replace("=", "=3D").replace(",", "=2C")
        self.bare = f"n={name},r=cnonce{os.getpid()}".encode()
        self.password = password.encode()
        self.turn = 0
        self.signature = None

    def __call__(self, challenge):
        self.turn += 1
        if self.turn == 1:
            assert challenge == b"", challenge
            return b"n,," + self.bare
        if self.turn == 2:
            return self.prove(challenge)
        assert challenge == b"v=" + b64(self.signature), challenge
        return b""

    def prove(self, challenge):
        fields = dict(field.split(b"=", 1) for field in challenge.split(b","))
        salt, count = base64.b64decode(fields[b"s"]), int(fields[b"i"])
        mac = lambda key, text: hmac.new(key, text, hashlib.sha256).digest()
        salted = hashlib.pbkdf2_hmac("sha256", self.password, salt, count)
        client_key = mac(salted, b"Client Key")
        unproven = b"c=biws,r=" + fields[b"r"]
        signed = b",".join((self.bare, challenge, unproven))
        signature = mac(hashlib.sha256(client_key).digest(), signed)
        self.signature = mac(mac(salted, b"Server Key"), signed)
        proof = bytes(one ^ other for one, other in zip(client_key, signature))
        return unproven + b",p=" + b64(proof)


class Words:
    """LOGIN and PLAIN: one message after the other."""

    def __init__(self, *words):
        self.words = [word.encode() for word in words]

    def __call__(self, challenge):
        return self.words.pop(0)


def right():
    yield "SCRAM-SHA-256", Scram()
    yield "SCRAM-SHA-256", Scram(os.environ["APP_PASSWORD"])
    yield "PLAIN", Words(f"\0{USER}\0{PASSWORD}")
    yield "LOGIN", Words(USER, PASSWORD)


def wrong():
    yield "SCRAM-SHA-256", Scram("wrong")
    yield "SCRAM-SHA-256", Scram(PASSWORD, "nobody@local.example")
    yield "PLAIN", Words(f"\0{USER}\0wrong")


def imap(mechanism, answer):
    client = imaplib.IMAP4(HOST, int(os.environ["IMAP_PORT"]), timeout=60)
    assert f"AUTH={mechanism}" in client.capabilities, client.capabilities
    client.authenticate(mechanism, answer)
    assert client.select()[0] == "OK"
    client.logout()


def pop3(mechanism, answer):
    client = poplib.POP3(HOST, int(os.environ["POP3_PORT"]), timeout=60)
    assert mechanism in client.capa()["SASL"], client.capa()
    reply = client._shortcmd(f"AUTH {mechanism}")
    while reply.startswith(b"+ "):
        reply = client._shortcmd(b64(answer(base64.b64decode(reply[2:]))).decode())
    assert reply.startswith(b"+OK"), reply
    client.quit()


def submission(mechanism, answer):
    client = smtplib.SMTP(HOST, int(os.environ["SUBMISSION_PORT"]), "client.example", timeout=60)
    client.ehlo()
    assert mechanism in client.esmtp_features["auth"].split(), client.esmtp_features
    code, reply = client.docmd("AUTH", mechanism)
    while code == 334:
        code, reply = client.docmd(b64(answer(base64.b64decode(reply))).decode())
    if code != 235:
        raise smtplib.SMTPAuthenticationError(code, reply)
    client.quit()


def refused(log_in, mechanism, answer):
    try:
        log_in(mechanism, answer)
    except (imaplib.IMAP4.error, poplib.error_proto, smtplib.SMTPAuthenticationError) as error:
        text = str(error)
        assert any(word in text for word in ("AUTHENTICATIONFAILED", "[AUTH]", "535")), text
        return
    raise AssertionError(f"{mechanism} took what is wrong")


PROTOCOLS = [imap, pop3]
if "SUBMISSION_PORT" in os.environ:
    PROTOCOLS.append(submission)
for protocol in PROTOCOLS:
    for mechanism, answer in right():
        protocol(mechanism, answer)
    for mechanism, answer in wrong():
        refused(protocol, mechanism, answer)
