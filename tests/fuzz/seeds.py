#!/usr/bin/env python3
"""Writes the seeds of the targets whose inputs nobody types: sessions of POP3, and fields of the store.

    tests/fuzz/seeds.py        writes tests/corpus/{pop3_session,store_batch,store_record,store_superblock}

What fuzzers found lies beside the seeds and is left alone. The inputs of the store are fields off the
front of the octets, little-endian, in the order in which src/store/fuzz.rs takes them.
"""

import pathlib
import struct

CORPUS = pathlib.Path(__file__).resolve().parent.parent / "corpus"
SEQUENCE = bytes(range(256))


def session(text, plaintext=True, logged_in=True):
    """The first octet chooses whether plain passwords are taken, and whether somebody is in."""
    first = 0x40 | (0 if plaintext else 1) | (2 if logged_in else 0)
    return bytes([first]) + text.replace("\n", "\r\n").encode("latin-1")


POP3_SESSION = {
    "login": session("CAPA\nUSER u\nPASS p\nSTAT\nQUIT\n", logged_in=False),
    "wrong-password": session("USER u\nPASS x\nUSER u\nPASS p\nNOOP\n", logged_in=False),
    "not-in-clear": session("USER u\nPASS p\nAUTH PLAIN\nQUIT\n", plaintext=False, logged_in=False),
    "auth": session("AUTH PLAIN AHUAcA==\nSTAT\nQUIT\n", logged_in=False),
    "auth-asked": session("AUTH PLAIN\nAHUAcA==\nLIST\n", logged_in=False),
    "auth-given-up": session("AUTH PLAIN\n*\nAUTH NONE\nAUTH\n", logged_in=False),
    "verdicts": session("".join(f"USER {name}@example.org\nPASS p\n" for name in ("held", "off", "later")), logged_in=False),
    "read": session("STAT\nLIST\nLIST 1\nUIDL\nUIDL 3\nRETR 1\nRETR 2\nRETR 3\nQUIT\n"),
    "top": session("TOP 1 0\nTOP 1 1\nTOP 2 4294967295\nTOP 3 18446744073709551616\nTOP 1\n"),
    "delete": session("DELE 1\nDELE 1\nRETR 1\nLIST\nRSET\nDELE 2\nDELE 3\nQUIT\nNOOP\n"),
    "numbers": session("LIST 0\nRETR 4\nDELE -1\nUIDL 01\nRETR 99999999999999999999\nRETR 1 2\n"),
    "pipelined-quit": session("RETR 1\nDELE 1\nQUIT\nRETR 2\nUSER u\n"),
    "bare-ends": bytes([0x42]) + b"NOOP\nSTAT\rLIST\r\r\nNOOP\0\r\n\r\nNOO",
    "long": session("NOOP " + "x" * 600 + "\nNOOP\nAUTH PLAIN " + "A" * 300 + "\n"),
    "utf8": session("UTF8\nUSER \xe9\nLANG\nSTLS\nXYZZY\n", logged_in=False),
}


def superblock(store, seq, root, reached, segment_octets=8 << 20, torn=(0, 0, 0)):
    fields = struct.pack("<QHH3Q", store, 1, 2, seq, 1, segment_octets)
    fields += struct.pack("<4IQ", *root) + struct.pack("<2Q", *reached)
    header = struct.pack("<B6Q", seq % 3, 1, reached[0], max(reached[0], 1) - 1, reached[1], 7, 1_700_000_000)
    return fields + header + struct.pack("<I", root[0]) + struct.pack("<BHB", *torn)


ROOT, MAX = (3, 2, 128, 512, 3), 2**64 - 1
STORE_SUPERBLOCK = {
    "new": superblock(1, 1, (0,) * 5, (1, 1)),
    "in-use": superblock(0xF022, 41, ROOT, (9, 1_234)),
    "large": superblock(MAX, MAX, (2**32 - 1,) * 4 + (MAX,), (MAX, MAX), MAX),
    "zeros": bytes(160),
    "ones": b"\xff" * 160,
    "short": superblock(7, 3, ROOT, (2, 2))[:30],
    "magic": b"PSUP" + SEQUENCE[:124],
    "empty": b"",
    **{
        f"torn-{copy}-{at}": superblock(5, 8, ROOT, (4, 99), torn=(copy, at, flip))
        for copy, at, flip in ((0, 0, 1), (1, 8, 0x80), (2, 511, 0xFF), (3, 4_095, 0x10), (0, 60, 2))
    },
}


def record(kind, account, body, said=None):
    """A record as it lies on disk; its checksum is made right by the target."""
    return struct.pack("<IIBBHI", len(body) if said is None else said, 0, kind, 1, 0, account) + body


def lone(octets, keep=0xFFFF, seed=0xF022, at=152):
    return struct.pack("<QHH", seed, at, keep) + octets


STORE_RECORD = {
    "empty-body": lone(record(34, 7, b"")),
    "short": lone(record(34, 7, b"abc")),
    "aligned": lone(record(52, 1, SEQUENCE[:16])),
    "long": lone(record(70, 0, SEQUENCE * 4)),
    "first": lone(record(1, 0, b"root"), at=128),
    "cut-header": lone(record(34, 7, b"abcdef"), keep=12),
    "cut-body": lone(record(34, 7, b"abcdef"), keep=20),
    "cut-to-one": lone(record(34, 7, b"abcdef"), keep=0),
    "says-more": lone(record(34, 7, b"abc", said=200)),
    "says-all": lone(record(34, 7, b"abc", said=2**32 - 1)),
    "says-less": lone(record(34, 7, b"abcdefgh", said=3)),
    "two": lone(record(34, 7, b"abc") + bytes(5) + record(35, 7, b"defg")),
    "no-record": struct.pack("<QHH", 1, 0, 0),
}


def honest(*groups, flip=0):
    return b"\0" + struct.pack("<I", flip) + b"".join(groups)


def group(records, blobs):
    """The counts and lengths that the target takes, each in front of what it counts."""
    out = bytes([len(records)])
    out += b"".join(struct.pack("<BBIB", kind, 1, 7, len(body)) + body for kind, body in records)
    out += bytes([len(blobs)])
    for number, parts in blobs:
        out += struct.pack("<Q3B", number, *map(len, parts)) + b"".join(parts)
    return out


def hostile(meta, records, lines, content, blocks=1, stream=0, extra=0):
    """Fields of a batch header, then what lies behind it."""
    fields = struct.pack("<BQQQBHBB", stream, 1, 5, 4, blocks, meta, lines, records)
    return b"\1" + fields + struct.pack("<QQB", 9, 1, extra) + content


def line(number, offset, octets):
    return struct.pack("<QQQ", number, offset, octets)


def blob(summary, content, codec=0, stored=None):
    """A blob's fields in the order in which the target reads them, at the blob's place."""
    stored = len(content) if stored is None else stored
    fields = struct.pack("<HBHIQQ", 1, codec, 0, len(summary), len(content), stored)
    return fields.ljust(64, b"\0") + summary + content


MAIL = blob(b"sum", b"Subject: a\r\n\r\nb\r\n")
# A blob line (24) and a record (24 with its padding) behind the header of 128 end at 176.
WITH_BLOB = line(9, 192, 128) + record(34, 7, b"abc").ljust(24, b"\0") + bytes(16) + MAIL
STORE_BATCH = {
    "honest-none": honest(),
    "honest-record": honest(group([(34, b"abc")], [])),
    "honest-blob": honest(group([(34, b"abc")], [(9, (b"sum", b"one", b"two"))]), flip=4_000),
    "honest-groups": honest(*[group([(34, b"a" * n)], [(n, (b"s", b"x" * n, b""))]) for n in range(1, 8)], flip=99),
    "honest-empty-blob": honest(group([], [(1, (b"", b"", b"")), (2, (b"", b"", b"z"))])),
    "hostile-none": hostile(0, 0, 0, b""),
    "hostile-record": hostile(24, 1, 0, record(34, 7, b"abc")),
    "hostile-more-records": hostile(24, 9, 0, record(34, 7, b"abc")),
    "hostile-blob": hostile(48, 1, 1, WITH_BLOB),
    "hostile-cold": hostile(48, 1, 1, WITH_BLOB, blocks=2, stream=1, extra=1),
    "hostile-blob-nowhere": hostile(24, 0, 1, line(9, MAX, 128)),
    "hostile-blob-in-header": hostile(24, 0, 1, line(9, 0, 128)),
    "hostile-blob-says-all": hostile(24, 0, 1, line(9, 192, MAX) + bytes(40) + blob(b"", b"x", stored=MAX)),
    "hostile-blobs-on-blobs": hostile(48, 0, 2, line(9, 192, 128) * 2 + bytes(16) + MAIL),
    "hostile-meta-beyond": hostile(0xFFFF, 255, 255, SEQUENCE * 2, blocks=255, stream=2),
}

for target, seeds in {
    "pop3_session": POP3_SESSION,
    "store_batch": STORE_BATCH,
    "store_record": STORE_RECORD,
    "store_superblock": STORE_SUPERBLOCK,
}.items():
    (CORPUS / target).mkdir(exist_ok=True)
    for name, octets in seeds.items():
        (CORPUS / target / name).write_bytes(octets)
