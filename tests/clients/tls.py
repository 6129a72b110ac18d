#!/usr/bin/env python3
# needs: python3 openssl
"""TLS on every port, with Python's ssl and openssl: versions, resumption, what a stranger can
put in, how a connection ends, and sessions that move to another shard once somebody has logged in."""

import imaplib
import os
import poplib
import smtplib
import socket
import ssl
import struct
import subprocess
import time

HOST = os.environ["HOST"]
PORT = {name: int(os.environ[f"{name.upper()}_PORT"]) for name in ("smtp", "lmtp", "submission", "pop3", "imap")}
SECURE = {name: int(os.environ[f"{name.upper()}_PORT"]) for name in ("submissions", "pop3s", "imaps")}
USER, PASSWORD = os.environ["USER_ADDRESS"], os.environ["PASSWORD"]
OTHER = os.environ["OTHER_ADDRESS"]

# How each protocol asks for TLS, what it says when it goes on, and what a NOOP inside is answered.
ASK = {
    "smtp": (b"EHLO client.example\r\n", b"STARTTLS\r\n", b"220", b"NOOP\r\n", b"250"),
    "lmtp": (b"LHLO client.example\r\n", b"STARTTLS\r\n", b"220", b"NOOP\r\n", b"250"),
    "submission": (b"EHLO client.example\r\n", b"STARTTLS\r\n", b"220", b"NOOP\r\n", b"250"),
    "pop3": (b"", b"STLS\r\n", b"+OK", b"NOOP\r\n", b"-ERR"),
    "imap": (b"", b"a STARTTLS\r\n", b"a OK", b"b NOOP\r\n", b"b OK"),
}


def context(low=ssl.TLSVersion.TLSv1_2, high=ssl.TLSVersion.TLSv1_3):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    made.minimum_version, made.maximum_version = low, high
    return made


def connect(port):
    made = socket.create_connection((HOST, port), timeout=30)
    made.settimeout(30)
    return made


def hear(sock, end=b"\r\n"):
    heard = b""
    while not heard.endswith(end):
        more = sock.recv(4096)
        if not more:
            break
        heard += more
    return heard


def last_line(sock):
    """The last line of a reply, which may have several."""
    heard = b""
    while True:
        heard += hear(sock)
        line = heard.rstrip(b"\r\n").rsplit(b"\n", 1)[-1]
        if line[3:4] != b"-":
            return line


def in_clear(name):
    """A connection up to where TLS can be asked for."""
    sock = connect(PORT[name])
    hear(sock)
    hello = ASK[name][0]
    if hello:
        sock.sendall(hello)
        last_line(sock)
    return sock


def versions():
    for port in SECURE.values():
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with context(version, version).wrap_socket(connect(port), server_hostname="mx.local.example") as sock:
                assert sock.version() == version.name.replace("_", "."), sock.version()
                assert hear(sock)[:1] in (b"+", b"*", b"2")
                assert sock.getpeercert(True)
    for name in ASK:
        sock = in_clear(name)
        sock.sendall(ASK[name][1])
        assert last_line(sock).startswith(ASK[name][2])
        with context().wrap_socket(sock) as inside:
            assert inside.version() == "TLSv1.3"
            inside.sendall(ASK[name][3])
            assert last_line(inside).startswith(ASK[name][4])


def old_versions():
    for port in SECURE.values():
        for option in ("-tls1", "-tls1_1"):
            asked = subprocess.run(
                ["openssl", "s_client", "-connect", f"{HOST}:{port}", option, "-cipher", "ALL:@SECLEVEL=0"],
                input=b"", capture_output=True, timeout=60)
            assert b"Cipher is (NONE)" in asked.stdout, asked.stdout
    for protocol in ("smtp", "pop3", "imap", "lmtp"):
        asked = subprocess.run(
            ["openssl", "s_client", "-starttls", protocol, "-connect", f"{HOST}:{PORT[protocol]}", "-ign_eof"],
            input=b"QUIT\r\nz LOGOUT\r\n", capture_output=True, timeout=60)
        assert b"TLSv1.3, Cipher is TLS_" in asked.stdout, (protocol, asked.stdout, asked.stderr)


def resumption():
    """Both shards have the keys of all tickets: nearly every connection goes on with the first."""
    for low, high in ((ssl.TLSVersion.TLSv1_3,) * 2, (ssl.TLSVersion.TLSv1_2,) * 2):
        with_tickets = context(low, high)
        session, resumed, tries = None, 0, 24
        for _ in range(tries):
            with with_tickets.wrap_socket(connect(SECURE["pop3s"]), session=session) as sock:
                hear(sock)
                resumed += sock.session_reused
                session = sock.session
                sock.sendall(b"QUIT\r\n")
                hear(sock)
        assert resumed == tries - 1, (resumed, low)


def injection():
    """What was sent in clear behind the command is not answered inside, and changes nothing."""
    inject = {
        "smtp": b"STARTTLS\r\nEHLO evil.example\r\nMAIL FROM:<evil@evil.example>\r\n",
        "lmtp": b"STARTTLS\r\nLHLO evil.example\r\nMAIL FROM:<evil@evil.example>\r\n",
        "submission": b"STARTTLS\r\nEHLO evil.example\r\nAUTH PLAIN AGEAYg==\r\n",
        "pop3": b"STLS\r\nUSER evil\r\n",
        "imap": b"a STARTTLS\r\nx LOGIN evil evil\r\n",
    }
    # What would be answered otherwise had it been heard, and what is said to one who said nothing.
    check = {
        "smtp": (b"RCPT TO:<" + OTHER.encode() + b">\r\n", b"503"),
        "lmtp": (b"MAIL FROM:<>\r\n", b"503"),
        "submission": (b"MAIL FROM:<>\r\n", b"503"),
        "pop3": (b"PASS evil\r\n", b"-ERR USER comes first"),
        "imap": (b"b NOOP\r\n", b"b OK"),
    }
    for name, octets in inject.items():
        sock = in_clear(name)
        sock.sendall(octets)
        assert last_line(sock).startswith(ASK[name][2]), name
        with context().wrap_socket(sock) as inside:
            inside.settimeout(1)
            try:
                raise AssertionError((name, inside.recv(100)))
            except TimeoutError:
                pass
            inside.settimeout(30)
            asked, answer = check[name]
            inside.sendall(asked)
            assert last_line(inside).startswith(answer), name


def state_is_new():
    """RFC 3207 4.2: the greeting of before counts no more, and TLS is not offered again."""
    sock = in_clear("smtp")
    sock.sendall(b"STARTTLS\r\n")
    last_line(sock)
    with context().wrap_socket(sock) as inside:
        for asked, answer in (
            (b"MAIL FROM:<>\r\n", b"503"),
            (b"STARTTLS\r\n", b"503"),
        ):
            inside.sendall(asked)
            assert last_line(inside).startswith(answer), asked
        inside.sendall(b"EHLO client.example\r\n")
        offered = hear(inside, b"250 HELP\r\n")
        assert b"STARTTLS" not in offered, offered
    with smtplib.SMTP(HOST, PORT["smtp"]) as client:
        client.ehlo("client.example")
        assert client.has_extn("starttls")
    client = poplib.POP3(HOST, PORT["pop3"])
    assert "STLS" in client.capa()
    client.stls(context())
    assert "STLS" not in client.capa() and "USER" in client.capa()
    client.quit()
    client = imaplib.IMAP4(HOST, PORT["imap"])
    assert "STARTTLS" in client.capabilities
    client.starttls(context())
    assert "STARTTLS" not in client.capabilities and "AUTH=PLAIN" in client.capabilities
    client.logout()


def garbage():
    """Whoever speaks no TLS, or breaks off, is hung up on; the next is served."""
    for port in SECURE.values():
        for octets in (b"QUIT\r\n", b"\x16\x03\x01\x00\x05hello", b"\x16\x03\x01", b"\x80\x2e\x01\x00\x02", b"\0" * 100):
            sock = connect(port)
            sock.sendall(octets)
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(4096):
                pass
        # In the middle of a handshake: a key exchange that is none, and a message behind it in its record.
        near, far = ssl.MemoryBIO(), ssl.MemoryBIO()
        hello = context(high=ssl.TLSVersion.TLSv1_2).wrap_bio(near, far)
        try:
            hello.do_handshake()
        except ssl.SSLWantReadError:
            pass
        sock = connect(port)
        sock.sendall(far.read())
        flight = b""
        while not flight.endswith(b"\x0e\0\0\0"):
            flight += sock.recv(4096)
        sock.sendall(b"\x16\x03\x03\0\x0a" + b"\x10\0\0\x02\x01\0" + b"\x14\0\0\0")
        assert hear(sock, b"\0")[:1] == b"\x15", "an alert says why"
        sock.close()
        sock = connect(port)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.sendall(b"\x16\x03\x01\x02\x00\x01")
        sock.close()
        with context().wrap_socket(connect(port)) as sock:
            assert hear(sock)


def ends():
    """A QUIT is answered with a proper end; a cut of TCP without one loses nothing that was answered."""
    with context().wrap_socket(connect(SECURE["pop3s"])) as sock:
        sock.suppress_ragged_eofs = False
        hear(sock)
        sock.sendall(b"QUIT\r\n")
        assert hear(sock).startswith(b"+OK")
        assert sock.recv(1) == b"", "the server says that it has ended"
    plain = connect(SECURE["pop3s"])
    sock = context().wrap_socket(plain)
    hear(sock)
    sock.sendall(b"CAPA\r\n")
    socket.socket.shutdown(sock, socket.SHUT_WR)
    assert b"+OK" in hear(sock, b"\r\n.\r\n")


def whole_sessions():
    """Mail in and out, encrypted all the way; accounts of both shards."""
    with smtplib.SMTP(HOST, PORT["smtp"]) as client:
        client.starttls(context=context())
        body = "x" * 70 + "\r\n"
        text = f"From: a@client.example\r\nTo: {USER}\r\nSubject: by TLS\r\n\r\n" + body * 3000
        client.sendmail("a@client.example", [USER], text)
    for user in (USER, OTHER):
        client = poplib.POP3_SSL(HOST, SECURE["pop3s"], context=context())
        client.user(user)
        client.pass_(PASSWORD)
        if user == USER:
            count, _ = client.stat()
            assert count == 1, count
            mail = b"\n".join(client.retr(1)[1])
            assert mail.count(b"x" * 70) == 3000
            head = mail[:2000]
            assert b"with ESMTPS" in head and b"tls TLS_" in head, head
        client.quit()
        # Many times: the connection comes to either shard.
        for _ in range(6):
            client = imaplib.IMAP4_SSL(HOST, SECURE["imaps"], ssl_context=context())
            client.login(user, PASSWORD)
            status, (count,) = client.select("INBOX")
            assert status == "OK"
            if user == USER:
                status, data = client.fetch("1", "(BODY.PEEK[TEXT])")
                assert data[0][1].count(b"x" * 70) == 3000
            client.logout()


def submits():
    """A user's mail by both ports for users (RFC 8314 3.3), logged in inside."""
    text = f"From: {USER}\r\nTo: {OTHER}\r\nSubject: submitted\r\n\r\n"
    with smtplib.SMTP(HOST, PORT["submission"]) as client:
        client.starttls(context=context())
        client.login(USER, PASSWORD)
        client.sendmail(USER, [OTHER], text)
    with smtplib.SMTP_SSL(HOST, SECURE["submissions"], context=context()) as client:
        client.ehlo("client.example")
        assert not client.has_extn("starttls") and client.has_extn("auth")
        client.login(USER, PASSWORD)
        client.sendmail(USER, [OTHER], text)
    client = imaplib.IMAP4_SSL(HOST, SECURE["imaps"], ssl_context=context())
    client.login(OTHER, PASSWORD)
    for _ in range(600):
        client.select("INBOX")
        found = client.search(None, "FROM", USER, "SUBJECT", "submitted")[1][0].split()
        if len(found) == 2:
            break
        time.sleep(0.1)
    assert len(found) == 2, found
    for number in found:
        head = client.fetch(number, "(BODY.PEEK[HEADER])")[1][0][1]
        assert b"with ESMTPSA" in head and b"tls TLS_" in head and b"\nDate: " in head, head
    client.logout()


for test in (versions, old_versions, resumption, injection, state_is_new, garbage, ends, whole_sessions, submits):
    test()
    print("good", test.__name__)
