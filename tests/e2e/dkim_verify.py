"""Verifies every DKIM signature of the message on stdin with dkimpy, by records of a zone file.

Prints a line for each: its place, `good` or `bad`, and its tags a=, d=, s= and h=.
"""

import re
import sys

import dkim

records = {}
for line in open(sys.argv[1], encoding="ascii"):
    name = line.split(" ", 1)[0].rstrip(".")
    records[name] = "".join(re.findall(r'"([^"]*)"', line)).encode()


def look_up(name, timeout=5):
    if isinstance(name, bytes):
        name = name.decode()
    return records.get(name.rstrip("."))


message = sys.stdin.buffer.read()
signatures = [
    value for name, value in dkim.rfc822_parse(message)[0] if name.lower() == b"dkim-signature"
]
for index, value in enumerate(signatures):
    tags = dkim.util.parse_tag_value(value)
    try:
        verdict = dkim.DKIM(message).verify(index, dnsfunc=look_up)
    except dkim.DKIMException as error:
        verdict = False
        print(error, file=sys.stderr)
    shown = " ".join(f"{tag}={tags[tag.encode()].decode()}" for tag in "adsh")
    print(index, "good" if verdict else "bad", re.sub(r"\s+(?=[^ =]*(:|$))", "", shown))
