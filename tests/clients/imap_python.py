"""Python's imaplib and, where it is installed, IMAPClient: mailboxes, flags, search by hand, IDLE.

imaplib sends synchronising literals and reads what it does not know; IMAPClient parses everything
that FETCH gives.
"""
# needs: python3

import imaplib
import os
import sys
import time

HOST = os.environ["HOST"]
PORT = int(os.environ["IMAP_PORT"])
USER = os.environ["USER_ADDRESS"]
PASSWORD = os.environ["PASSWORD"]
MESSAGE = (b"From: Ann <ann@other.example>\r\nTo: bob@local.example\r\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\r\n"
           b"Message-ID: <1@other.example>\r\nDate: Wed, 7 Feb 2024 10:00:00 +0100\r\n\r\ntext\r\n")


def ok(answer):
    status, data = answer
    assert status == "OK", answer
    return data


def standard_library():
    client = imaplib.IMAP4(HOST, PORT, timeout=60)
    for word in ("IMAP4REV1", "LITERAL+", "SASL-IR"):
        assert word in client.capabilities, client.capabilities
    try:
        client.login(USER, "wrong")
        raise AssertionError("a wrong password was taken")
    except imaplib.IMAP4.error as error:
        assert b"AUTHENTICATIONFAILED" in error.args[0], error
    ok(client.authenticate("PLAIN", lambda _: f"\0{USER}\0{PASSWORD}".encode()))
    # Before UTF8=ACCEPT: with it, many versions put "UTF8 (" into the literal itself.
    ok(client.append("INBOX", r"(\Flagged)", imaplib.Time2Internaldate(1_700_000_000), MESSAGE))
    ok(client.enable("UTF8=ACCEPT"))
    assert client.utf8_enabled
    ok(client.create('"Entwürfe"'))
    assert any("Entwürfe".encode() in line for line in ok(client.list()))
    assert ok(client.select("INBOX")) == [b"1"]
    data = ok(client.fetch("1", "(FLAGS INTERNALDATE BODY[])"))
    assert data[0][1] == MESSAGE, data
    assert time.mktime(imaplib.Internaldate2tuple(data[0][0])) == 1_700_000_000, data
    ok(client.store("1", "+FLAGS", r"(\Deleted $Label1)"))
    ok(client.copy("1", '"Entwürfe"'))
    assert ok(client.expunge()) == [b"1"]
    assert ok(client.status('"Entwürfe"', "(MESSAGES)"))[0].endswith(b"(MESSAGES 1)")
    ok(client.rename('"Entwürfe"', "Alt"))
    ok(client.subscribe("Alt"))
    assert ok(client.lsub(pattern="Alt")) != [None]
    ok(client.close())
    ok(client.delete("Alt"))
    ok(client.getquotaroot("INBOX"))
    ok(client.namespace())
    ok(client.noop())
    assert client.logout()[0] == "BYE"


def imap_client():
    import imapclient
    client = imapclient.IMAPClient(HOST, PORT, ssl=False, timeout=60)
    client.login(USER, PASSWORD)
    client.id_({"name": "test"})
    assert client.namespace()[0] == (("", "/"),)
    names = {name: flags for flags, _, name in client.list_folders()}
    assert b"\\Sent" in names["Sent"], names
    assert client.find_special_folder(b"\\Sent") == "Sent"
    client.create_folder("Ordner/Süd")
    client.append("Ordner/Süd", MESSAGE, [b"\\Answered"])
    client.append("Ordner/Süd", MESSAGE)
    client.select_folder("Ordner/Süd")
    items = [b"ENVELOPE", b"BODYSTRUCTURE", b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE", b"BODY[HEADER.FIELDS (SUBJECT)]"]
    found = client.fetch([1, 2], items)
    assert sorted(found) == [1, 2], found
    assert found[1][b"ENVELOPE"].subject == b"=?utf-8?q?Gr=C3=BC=C3=9Fe?=", found
    assert found[1][b"ENVELOPE"].from_[0].mailbox == b"ann"
    assert found[1][b"RFC822.SIZE"] == len(MESSAGE)
    assert found[1][b"BODYSTRUCTURE"][0] == b"text", found
    flags = client.add_flags([1], [imapclient.FLAGGED])[1]
    assert flags == (b"\\Answered", b"\\Flagged", b"\\Seen", b"\\Recent")
    client.move([1], "Trash")
    assert client.folder_status("Trash", [b"MESSAGES", b"UIDNEXT"])[b"MESSAGES"] == 1
    client.idle()
    other = imapclient.IMAPClient(HOST, PORT, ssl=False, timeout=60)
    other.login(USER, PASSWORD)
    other.append("Ordner/Süd", MESSAGE)
    heard = []
    while (2, b"EXISTS") not in heard:
        news = client.idle_check(timeout=60)
        assert news, heard
        heard += news
    client.idle_done()
    client.delete_messages([2])
    client.uid_expunge([2])
    client.close_folder()
    client.rename_folder("Ordner/Süd", "Nord")
    client.delete_folder("Nord")
    assert client.get_quota_root("INBOX")[0].quota_roots == []
    other.logout()
    client.logout()


standard_library()
try:
    import imapclient
except ImportError:
    print("IMAPClient is not installed")
    sys.exit(int(os.environ.get("CLIENTS_REQUIRED", 0)))
else:
    imap_client()
