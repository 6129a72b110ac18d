#!/usr/bin/env python3
# needs: python3 gsasl openssl
"""SCRAM bound to its TLS connection (RFC 5802 6, RFC 9266), by clients of others: scramp, which has
tls-server-end-point, and gsasl, which has tls-exporter; and somebody between them and the server."""

import base64
import imaplib
import os
import poplib
import select
import smtplib
import socket
import ssl
import subprocess
import sys
import threading

try:
    from scramp import ScramClient
except ImportError:
    print("scramp is not installed")
    sys.exit(int(os.environ.get("CLIENTS_REQUIRED", 0)))

HOST = os.environ["HOST"]
PORT = {name: int(os.environ[f"{name.upper()}_PORT"])
        for name in ("submission", "submissions", "pop3s", "imap", "imaps")}
USER, PASSWORD = os.environ["USER_ADDRESS"], os.environ["PASSWORD"]
END_POINT = "tls-server-end-point"
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


def context(version=None):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if version:
        made.minimum_version = made.maximum_version = version
    return made


class Scram:
    """scramp's side, message by message."""

    def __init__(self, mechanism, bound):
        self.client = ScramClient([mechanism], USER, PASSWORD, channel_binding=(END_POINT, bound))
        self.turns = iter((self.first, self.final, self.end))

    def __call__(self, challenge):
        return next(self.turns)(challenge.decode()).encode()

    def first(self, challenge):
        assert challenge == "", challenge
        return self.client.get_client_first()

    def final(self, challenge):
        self.client.set_server_first(challenge)
        return self.client.get_client_final()

    def end(self, challenge):
        # Throws if the server does not know the keys either.
        self.client.set_server_final(challenge)
        return ""


class Words:
    """What one says to whatever is asked."""

    def __init__(self, *words):
        self.words = list(words)

    def __call__(self, challenge):
        return self.words.pop(0).encode()


# Each makes a connection, and gives what is offered, its socket, and how to log in: whether it was
# taken. Whoever was not is let in by his password afterwards: the session goes on.

def imaps(tls):
    client = imaplib.IMAP4_SSL(HOST, PORT["imaps"], ssl_context=tls, timeout=60)
    offered = {word.removeprefix("AUTH=") for word in client.capabilities}

    def log_in(mechanism, answer):
        try:
            client.authenticate(mechanism, answer)
        except imaplib.IMAP4.error:
            client.login(USER, PASSWORD)
            return False
        finally:
            assert client.select()[0] == "OK"
            client.logout()
        return True

    return offered, client.sock, log_in


def pop3s(tls):
    client = poplib.POP3_SSL(HOST, PORT["pop3s"], context=tls, timeout=60)

    def log_in(mechanism, answer):
        try:
            reply = client._shortcmd(f"AUTH {mechanism}")
            while reply.startswith(b"+ "):
                reply = answer(base64.b64decode(reply[2:]))
                reply = client._shortcmd(base64.b64encode(reply).decode())
        except poplib.error_proto:
            client.user(USER)
            client.pass_(PASSWORD)
            return False
        finally:
            client.stat()
            client.quit()
        return True

    return set(client.capa()["SASL"]), client.sock, log_in


def submissions(tls):
    client = smtplib.SMTP_SSL(HOST, PORT["submissions"], "client.example", context=tls, timeout=60)
    return smtp_in(client)


def submission(tls):
    client = smtplib.SMTP(HOST, PORT["submission"], "client.example", timeout=60)
    client.starttls(context=tls)
    return smtp_in(client)


def smtp_in(client):
    client.ehlo()

    def log_in(mechanism, answer):
        code, reply = client.docmd("AUTH", mechanism)
        while code == 334:
            reply = answer(base64.b64decode(reply))
            code, reply = client.docmd(base64.b64encode(reply).decode())
        if code != 235:
            client.login(USER, PASSWORD)
        assert client.mail(USER)[0] == 250
        client.quit()
        return code == 235

    return set(client.esmtp_features["auth"].split()), client.sock, log_in


DOORS = (imaps, pop3s, submissions, submission)


def end_point():
    for door in DOORS:
        for version in VERSIONS:
            for mechanism in ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"):
                offered, sock, log_in = door(context(version))
                assert mechanism in offered, offered
                assert log_in(mechanism, Scram(mechanism, sock)), (door, version, mechanism)


def what_is_refused():
    openssl = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
               "-nodes", "-keyout", "other.key", "-out", "other.pem", "-subj", "/CN=mx.local.example"]
    subprocess.run(openssl, check=True, capture_output=True, timeout=60)
    plus, bare = "SCRAM-SHA-256-PLUS", "SCRAM-SHA-256"
    header = f"n={USER},r=cnonce"
    for door in DOORS:
        # The hash of another certificate.
        _, _, log_in = door(context())
        assert not log_in(plus, Scram(plus, b"\x01" * 32)), door
        # "I could bind, and you cannot", where PLUS was offered: somebody has struck it out.
        offered, sock, log_in = door(context())
        downgraded = Scram(bare, sock)
        assert downgraded.client.get_client_first().startswith("y,,")
        downgraded = Scram(bare, sock)
        assert plus in offered and not log_in(bare, downgraded), door
        # A mechanism that binds, bound to nothing, to what is not to be had, and half.
        for first in (f"n,,{header}", f"y,,{header}", f"p=tls-unique,,{header}", f"p=,,{header}"):
            _, _, log_in = door(context())
            assert not log_in(plus, Words(first)), (door, first)
        # A name of a binding in a mechanism without.
        _, _, log_in = door(context())
        assert not log_in(bare, Words(f"p={END_POINT},,{header}")), door


def gsasl(protocol, port, mechanism, *more):
    service = {"imap": ["--imap"], "smtp": ["--smtp"]}[protocol]
    command = ["gsasl", *service, f"--connect={HOST}:{port}", "--starttls", "--x509-ca-file=",
               f"--authentication-id={USER}", f"--password={PASSWORD}", f"--mechanism={mechanism}", *more]
    done = subprocess.run(command, input=b"", capture_output=True, timeout=60)
    return done.returncode == 0 and b"Client authentication finished" in done.stdout + done.stderr, done


def exporter():
    for protocol, port in (("imap", PORT["imap"]), ("smtp", PORT["submission"])):
        for mechanism in ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"):
            taken, done = gsasl(protocol, port, mechanism, "--priority=NORMAL:-VERS-ALL:+VERS-TLS1.3")
            assert taken, done
            # Older than TLS 1.3 gsasl has tls-unique alone, which others can make the same.
            taken, done = gsasl(protocol, port, mechanism, "--priority=NORMAL:-VERS-ALL:+VERS-TLS1.2")
            assert not taken, done


def between():
    """One who speaks TLS to both ends, reads everything, and changes nothing."""
    listener = socket.create_server(("127.0.0.1", 0))
    identity = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    identity.load_cert_chain("other.pem", "other.key")

    def pump(near, far):
        # One thread for both ways: OpenSSL lets no two at one connection, and TLS 1.3 has tickets to
        # be read at any time.
        other = {near: far, far: near}
        for sock in other:
            sock.setblocking(False)
        try:
            while ready := select.select(list(other), [], [], 60)[0]:
                for source in ready:
                    try:
                        octets = source.recv(65536)
                    except ssl.SSLWantReadError:
                        continue
                    if not octets:
                        return
                    other[source].sendall(octets)
        except OSError:
            pass
        finally:
            near.close()
            far.close()

    def line(sock):
        text = b""
        while not text.endswith(b"\n"):
            text += sock.recv(1) or b"\n"
        return text

    def relay():
        while True:
            try:
                near, _ = listener.accept()
            except OSError:
                return
            far = socket.create_connection((HOST, PORT["imap"]), timeout=60)
            near.sendall(line(far))
            asked = line(near)
            assert b"STARTTLS" in asked, asked
            far.sendall(asked)
            near.sendall(line(far))
            near = identity.wrap_socket(near, server_side=True)
            far = context().wrap_socket(far)
            threading.Thread(target=pump, args=(near, far), daemon=True).start()

    threading.Thread(target=relay, daemon=True).start()
    port = listener.getsockname()[1]
    # Who does not bind notices nothing.
    taken, done = gsasl("imap", port, "SCRAM-SHA-256", "--no-cb")
    assert taken, done
    for mechanism in ("SCRAM-SHA-256-PLUS", "SCRAM-SHA-1-PLUS"):
        taken, done = gsasl("imap", port, mechanism)
        assert not taken, done
    listener.close()


def in_clear():
    client = imaplib.IMAP4(HOST, PORT["imap"], timeout=60)
    assert not any(word.endswith("-PLUS") for word in client.capabilities), client.capabilities
    try:
        client.authenticate("SCRAM-SHA-256-PLUS", Words(f"p={END_POINT},,n={USER},r=cnonce"))
        raise AssertionError("there is nothing to bind to")
    except imaplib.IMAP4.error:
        pass
    client.logout()


for test in (end_point, what_is_refused, exporter, between, in_clear):
    test()
    print("good", test.__name__)
# The password of a program is as good.
PASSWORD = os.environ["APP_PASSWORD"]
for test in (end_point, exporter):
    test()
    print("good", test.__name__, "of a program")
