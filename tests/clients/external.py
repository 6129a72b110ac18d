#!/usr/bin/env python3
# needs: python3 openssl curl
"""Logins by the certificate of a client (SASL EXTERNAL), over IMAP, POP3 and submission, with
Python's ssl, openssl and curl: whom it lets in, whom it does not, and what a ticket remembers."""

import base64
import imaplib
import os
import poplib
import smtplib
import socket
import ssl
import subprocess

HOST = os.environ["HOST"]
PORT = {name: int(os.environ[f"{name.upper()}_PORT"])
        for name in ("smtp", "submission", "submissions", "pop3", "pop3s", "imap", "imaps")}
USER, PASSWORD = os.environ["USER_ADDRESS"], os.environ["PASSWORD"]
OTHER = os.environ["OTHER_ADDRESS"]
# Who signs for clients of this server: ca.pem and ca.key.
CA = os.environ["CLIENT_CA"]
HOST_NAME = "mx.local.example"


def openssl(*words, given=b""):
    done = subprocess.run(["openssl", *words], input=given, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def certificate(name, *emails, days="30", signer=None):
    """A file with a certificate and its key."""
    signer = signer or (f"{CA}/ca.pem", f"{CA}/ca.key")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
    with open(f"{name}.ext", "w") as file:
        file.write("extendedKeyUsage = clientAuth\nbasicConstraints = CA:FALSE\n")
        if emails:
            file.write("subjectAltName = " + ",".join(f"email:{email}" for email in emails) + "\n")
    openssl("x509", "-req", "-in", f"{name}.csr", "-CA", signer[0], "-CAkey", signer[1],
            "-set_serial", "1", "-days", days, "-extfile", f"{name}.ext", "-out", f"{name}.crt")
    with open(f"{name}.pem", "wb") as whole:
        for part in (f"{name}.crt", f"{name}.key"):
            with open(part, "rb") as file:
                whole.write(file.read())
    return f"{name}.pem"


def context(pem=None, version=None):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    if version:
        made.minimum_version = made.maximum_version = version
    if pem:
        made.load_cert_chain(pem)
    return made


# Each: log in by EXTERNAL as `authzid`; None where it is not offered, else whether it was taken.

def imaps(tls, authzid):
    return imap_in(imaplib.IMAP4_SSL(HOST, PORT["imaps"], ssl_context=tls, timeout=60), authzid)


def imap(tls, authzid):
    client = imaplib.IMAP4(HOST, PORT["imap"], timeout=60)
    assert "AUTH=EXTERNAL" not in client.capabilities
    client.starttls(tls)
    return imap_in(client, authzid)


def imap_in(client, authzid):
    offered = "AUTH=EXTERNAL" in client.capabilities
    try:
        client.authenticate("EXTERNAL", lambda _: authzid.encode())
        taken = client.select()[0] == "OK"
    except imaplib.IMAP4.error:
        taken = False
        # The session goes on, and a password is as good as ever.
        client.login(USER, PASSWORD)
    client.logout()
    return answer(offered, taken)


def pop3s(tls, authzid):
    return pop3_in(poplib.POP3_SSL(HOST, PORT["pop3s"], context=tls, timeout=60), authzid)


def pop3(tls, authzid):
    client = poplib.POP3(HOST, PORT["pop3"], timeout=60)
    assert "EXTERNAL" not in client.capa()["SASL"]
    client.stls(tls)
    return pop3_in(client, authzid)


def pop3_in(client, authzid):
    offered = "EXTERNAL" in client.capa()["SASL"]
    initial = base64.b64encode(authzid.encode()).decode() or "="
    try:
        client._shortcmd(f"AUTH EXTERNAL {initial}")
        taken = client.stat() is not None
    except poplib.error_proto:
        taken = False
        client.user(USER)
        client.pass_(PASSWORD)
    client.quit()
    return answer(offered, taken)


def submissions(tls, authzid):
    client = smtplib.SMTP_SSL(HOST, PORT["submissions"], "client.example", context=tls, timeout=60)
    return smtp_in(client, authzid)


def submission(tls, authzid):
    client = smtplib.SMTP(HOST, PORT["submission"], "client.example", timeout=60)
    client.ehlo()
    assert "EXTERNAL" not in client.esmtp_features["auth"].split()
    client.starttls(context=tls)
    return smtp_in(client, authzid)


def smtp_in(client, authzid):
    client.ehlo()
    offered = "EXTERNAL" in client.esmtp_features["auth"].split()
    initial = base64.b64encode(authzid.encode()).decode() or "="
    code, _ = client.docmd("AUTH", f"EXTERNAL {initial}")
    if code != 235:
        client.login(USER, PASSWORD)
    # Only the sender that is one's own is taken from one who is logged in.
    sender = OTHER if code == 235 and authzid == OTHER else USER
    assert client.mail(sender)[0] == 250
    client.quit()
    return answer(offered, code == 235)


def answer(offered, taken):
    assert offered or not taken, "what is not offered is not taken"
    return taken if offered else None


DOORS = (imaps, imap, pop3s, pop3, submissions, submission)


def whom_it_lets_in():
    first_is_nobody = certificate("two", f"nobody.{USER}", USER)
    for pem in (certificate("user", USER), certificate("upper", USER.upper()), first_is_nobody):
        for door in DOORS:
            assert door(context(pem), "") is True, (door, pem)
    for door in DOORS:
        assert door(context("user.pem"), USER) is True, door
        assert door(context("user.pem"), OTHER) is False, door
        assert door(context("user.pem"), "nobody@local.example") is False, door


def whom_it_does_not():
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", "forged.key", "-out", "forged.pem", "-subj", "/CN=Those who sign for clients",
            "-addext", "basicConstraints=critical,CA:TRUE")
    nobody = [
        None,
        certificate("nobody", "nobody@local.example"),
        certificate("nameless"),
        certificate("elsewhere", USER.replace("local.example", "other.example")),
        certificate("over", USER, days="-1"),
        certificate("forged-user", USER, signer=("forged.pem", "forged.key")),
    ]
    for pem in nobody:
        for door in DOORS:
            assert door(context(pem), "") is None, (door, pem)


def tickets():
    """A session that is resumed is that of the same user, on either shard, and of no other."""
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        tls, session, resumed = context("user.pem", version), None, 0
        for _ in range(12):
            plain = socket.create_connection((HOST, PORT["imaps"]), timeout=30)
            with tls.wrap_socket(plain, server_hostname=HOST_NAME, session=session) as sock:
                lines = sock.makefile("rwb")
                assert b"AUTH=EXTERNAL" in lines.readline()
                lines.write(b"a AUTHENTICATE EXTERNAL =\r\nb LOGOUT\r\n")
                lines.flush()
                assert lines.readline().startswith(b"a OK"), version
                lines.read()
                resumed += sock.session_reused
                session = sock.session
        assert resumed == 11, (resumed, version)
        # On port 25 it says nothing: nobody is asked there, and tickets of elsewhere are not known.
        plain = socket.create_connection((HOST, PORT["smtp"]), timeout=30)
        lines = plain.makefile("rwb")
        lines.readline()
        lines.write(b"STARTTLS\r\n")
        lines.flush()
        assert lines.readline().startswith(b"220")
        with tls.wrap_socket(plain, server_hostname=HOST_NAME, session=session) as sock:
            assert not sock.session_reused


def who_is_asked():
    """The names of those who sign are told where users log in, and not to servers that bring mail."""
    def said(*words):
        done = subprocess.run(["openssl", "s_client", "-connect", *words, "-ign_eof"],
                              input=b"QUIT\r\nz LOGOUT\r\n", capture_output=True, timeout=60)
        return done.stdout

    for words in (
        (f"{HOST}:{PORT['imaps']}",),
        (f"{HOST}:{PORT['pop3s']}", "-tls1_2"),
        (f"{HOST}:{PORT['submissions']}",),
        (f"{HOST}:{PORT['submission']}", "-starttls", "smtp"),
        (f"{HOST}:{PORT['imap']}", "-starttls", "imap"),
        (f"{HOST}:{PORT['pop3']}", "-starttls", "pop3", "-tls1_2"),
    ):
        heard = said(*words)
        assert b"Acceptable client certificate CA names" in heard, (words, heard)
        assert b"Those who sign for clients" in heard, (words, heard)
    for version in ("-tls1_2", "-tls1_3"):
        heard = said(f"{HOST}:{PORT['smtp']}", "-starttls", "smtp", version)
        assert b"No client certificate CA names sent" in heard, heard


def by_openssl():
    for version in ("-tls1_2", "-tls1_3"):
        asked = subprocess.run(
            ["openssl", "s_client", "-connect", f"{HOST}:{PORT['imaps']}", version, "-quiet",
             "-cert", "user.pem", "-key", "user.pem", "-ign_eof"],
            input=b"a AUTHENTICATE EXTERNAL =\r\nb LIST \"\" \"*\"\r\nc LOGOUT\r\n",
            capture_output=True, timeout=60)
        assert b"a OK" in asked.stdout and b"INBOX" in asked.stdout, asked


def by_curl():
    """curl names the user as the one to act for."""
    name = USER.replace("@", "%40")
    with open("mail", "w") as file:
        file.write(f"From: {USER}\r\nTo: {OTHER}\r\nSubject: by a certificate\r\n\r\nHello.\r\n")
    for url, more in (
        (f"imaps://{name};AUTH=EXTERNAL@{HOST}:{PORT['imaps']}/INBOX", ["-X", "NOOP"]),
        (f"imap://{name};AUTH=EXTERNAL@{HOST}:{PORT['imap']}/INBOX", ["-X", "NOOP"]),
        (f"pop3s://{name};AUTH=EXTERNAL@{HOST}:{PORT['pop3s']}/", []),
        (f"pop3://{name};AUTH=EXTERNAL@{HOST}:{PORT['pop3']}/", []),
        (f"smtps://{name};AUTH=EXTERNAL@{HOST}:{PORT['submissions']}/client.example",
         ["--mail-from", USER, "--mail-rcpt", OTHER, "-T", "mail"]),
        (f"smtp://{name};AUTH=EXTERNAL@{HOST}:{PORT['submission']}/client.example",
         ["--mail-from", USER, "--mail-rcpt", OTHER, "-T", "mail"]),
    ):
        words = ["curl", "-sS", "--insecure", "--ssl-reqd", "--max-time", "60", *more, url]
        done = subprocess.run([*words, "--cert", "user.pem"], capture_output=True, timeout=90)
        assert done.returncode == 0, (url, done)
        done = subprocess.run(words, capture_output=True, timeout=90)
        assert done.returncode != 0, (url, "without a certificate", done)


for test in (whom_it_lets_in, whom_it_does_not, tickets, who_is_asked, by_openssl, by_curl):
    test()
    print("good", test.__name__)
