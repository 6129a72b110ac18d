"""Python's smtplib (SMTP, LMTP) and poplib: the protocols as the standard library speaks them.

The session keeps state across commands: RSET, many messages, EAI, a lock, UIDLs, TOP, DELE
with and without QUIT.
"""
# needs: python3

import os
import poplib
import smtplib
import time

HOST = os.environ["HOST"]
USER = os.environ["USER_ADDRESS"]
OTHER = os.environ["OTHER_ADDRESS"]
PASSWORD = os.environ["PASSWORD"]
SENDER = "a@other.example"


def smtp():
    client = smtplib.SMTP(HOST, int(os.environ["SMTP_PORT"]), "client.example", timeout=60)
    client.ehlo_or_helo_if_needed()
    return client


def pop3(utf8=False):
    client = poplib.POP3(HOST, int(os.environ["POP3_PORT"]), timeout=60)
    if utf8:
        client.utf8()
    client.user(USER)
    client.pass_(PASSWORD)
    return client


def bare(lines):
    """Without Return-Path and the folded Received on top."""
    assert lines[0].startswith(b"Return-Path: <"), lines[0]
    assert lines[1].startswith(b"Received: from "), lines[1]
    top = 2
    while not lines[top - 1].endswith(b";"):
        top += 1
    return lines[top + 1:]


def sends():
    client = smtp()
    for word in ("pipelining", "size", "8bitmime", "smtputf8", "chunking"):
        assert client.has_extn(word), word
    for index in range(10):
        text = f"Subject: {index}\r\n\r\n" + ".\r\n..x\r\n" * index
        assert client.sendmail(SENDER, [USER, OTHER], text) == {}
    refused = client.sendmail(SENDER, [USER, "nobody@local.example"], "Subject: 10\r\n\r\n")
    assert refused["nobody@local.example"][0] == 550, refused
    for wrong in ("nobody@local.example", "a@foreign.example"):
        try:
            client.sendmail(SENDER, [wrong], "x")
            raise AssertionError(f"{wrong} was taken")
        except smtplib.SMTPRecipientsRefused as error:
            assert error.recipients[wrong][0] == 550, error.recipients
    assert client.noop()[0] == 250
    assert client.verify(USER)[0] in (250, 252)
    client.quit()


def speaks_utf8():
    client = smtp()
    text = "Subject: Grüße\r\n\r\ntext\r\n".encode()
    options = ["SMTPUTF8", "BODY=8BITMIME"]
    assert client.sendmail("пример@other.example", [USER], text, mail_options=options) == {}
    client.quit()


def speaks_lmtp():
    client = smtplib.LMTP(HOST, int(os.environ["LMTP_PORT"]), "client.example")
    refused = client.sendmail(SENDER, [USER, "nobody@local.example", OTHER], "Subject: lmtp\r\n\r\n")
    assert list(refused) == ["nobody@local.example"], refused
    client.quit()


def filled(count):
    """The maildrop once all is there: mail that is promised on one shard for a user of another is
    durable with its 250, and comes into the mailbox a moment later."""
    deadline = time.monotonic() + 30
    while True:
        client = pop3()
        if client.stat()[0] >= count or time.monotonic() > deadline:
            return client
        client.quit()
        time.sleep(0.05)


def reads():
    client = filled(13)
    count, octets = client.stat()
    assert count == 13, count
    ids = client.uidl()[1]
    assert len(set(ids)) == count
    sizes = [int(line.split()[1]) for line in client.list()[1]]
    assert sum(sizes) == octets
    for index in range(10):
        response, lines, size = client.retr(index + 1)
        text = bare(lines)
        assert text == [b"Subject: %d" % index, b""] + [b".", b"..x"] * index, text
        whole = sum(len(line) + 2 for line in lines)
        assert whole == sizes[index], (whole, sizes[index])
        assert bare(client.top(index + 1, 0)[1]) == [b"Subject: %d" % index, b""]
    try:
        client.retr(12)
        raise AssertionError("mail in UTF-8 for a reader without")
    except poplib.error_proto as error:
        assert b"[UTF8]" in error.args[0], error
    try:
        pop3()
        raise AssertionError("two sessions hold one maildrop")
    except poplib.error_proto as error:
        assert b"[IN-USE]" in error.args[0], error
    client.dele(1)
    # No QUIT: nothing is removed (RFC 1939 section 6).
    client.close()
    return ids


def removes(ids):
    client = patient()
    assert client.uidl()[1] == ids
    for number in (1, 3):
        client.dele(number)
    client.rset()
    for number in (2, 4):
        client.dele(number)
    client.quit()
    client = patient(utf8=True)
    left = [line.split()[1] for line in client.uidl()[1]]
    assert left == [line.split()[1] for number, line in enumerate(ids, 1) if number not in (2, 4)]
    assert "Subject: Grüße".encode() in client.retr(10)[1]
    client.quit()


def patient(utf8=False):
    """A login once the session before has let go."""
    while True:
        try:
            return pop3(utf8)
        except poplib.error_proto as error:
            assert b"[IN-USE]" in error.args[0], error


sends()
speaks_utf8()
speaks_lmtp()
removes(reads())
