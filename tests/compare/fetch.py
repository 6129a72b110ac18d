"""What is asked of each mail, and how two answers are held against each other."""

import binascii
import quopri
import re

FIELDS = "(SUBJECT FROM TO RECEIVED CONTENT-TYPE X-NONE)"
WHOLE = [
    "RFC822.SIZE", "ENVELOPE", "BODYSTRUCTURE", "BODY", "RFC822", "RFC822.HEADER", "RFC822.TEXT",
    "BODY.PEEK[]", "BODY.PEEK[HEADER]", "BODY.PEEK[TEXT]", f"BODY.PEEK[HEADER.FIELDS {FIELDS}]",
    f"BODY.PEEK[HEADER.FIELDS.NOT {FIELDS}]", "BODY.PEEK[]<0.100>", "BODY.PEEK[]<50.1000>",
    "BODY.PEEK[TEXT]<0.100>", "BODY.PEEK[TEXT]<50.1000>", "BODY.PEEK[99]", "BODY.PEEK[1.1.1.99.MIME]",
]
PART = ["BODY.PEEK[{0}]", "BODY.PEEK[{0}.MIME]", "BODY.PEEK[{0}]<0.100>", "BODY.PEEK[{0}]<50.1000>"]
MESSAGE = ["BODY.PEEK[{0}.HEADER]", "BODY.PEEK[{0}.TEXT]", f"BODY.PEEK[{{0}}.HEADER.FIELDS {FIELDS}]"]
BINARY = ["BINARY.PEEK[{0}]", "BINARY.SIZE[{0}]", "BINARY.PEEK[{0}]<0.100>", "BINARY.PEEK[{0}]<50.1000>"]
# What tells that a message was seen.
UNASKED = ("FLAGS", "UID")
# Of the items of one FETCH. Each FETCH costs Dovecot a pass over the mail, so few of many items are
# asked; it takes no line of more than 64 KiB.
LINE_OCTETS_MAX = 16_000

ENVELOPE = ["date", "subject", "from", "sender", "reply-to", "to", "cc", "bcc", "in-reply-to", "message-id"]
MULTIPART = ["subtype", "params", "disposition", "language", "location"]
SINGLE = ["type", "subtype", "params", "id", "description", "encoding", "octets"]
EXTENSION = ["md5", "disposition", "language", "location"]


class Failed(str):
    """Status and code of a command that is not OK."""


MISSING = Failed("missing")


def lower(value):
    return value.lower() if isinstance(value, bytes) else value


def lowered(params):
    """Parameters with their names in small letters."""
    if not isinstance(params, list):
        return params
    return [lower(value) if index % 2 == 0 else value for index, value in enumerate(params)]


class Body:
    """A BODY or BODYSTRUCTURE: its fields by name, its children."""

    def __init__(self, values):
        self.children, self.envelope, self.fields = [], None, {}
        rest = list(values)
        self.kind = "leaf"
        if isinstance(rest[0], list):
            self.kind = "multipart"
            while rest and isinstance(rest[0], list):
                self.children.append(Body(rest.pop(0)))
            self.take(MULTIPART, rest)
        else:
            self.take(SINGLE, rest)
            if self.fields["type"] == b"message" and rest and isinstance(rest[0], list):
                self.kind = "message"
                self.envelope = rest.pop(0)
                self.children.append(Body(rest.pop(0)))
            if self.kind == "message" or self.fields["type"] == b"text":
                self.take(["lines"], rest)
            self.take(EXTENSION, rest)
        self.fields["more"] = rest

    def take(self, names, rest):
        for name in names[:len(rest)]:
            value = rest.pop(0)
            if name in ("type", "subtype", "encoding"):
                value = lower(value)
            elif name == "params":
                value = lowered(value)
            elif name == "disposition" and value is not None:
                value = [lower(value[0]), lowered(value[1])]
            elif name == "language" and isinstance(value, bytes):
                value = [value]
            self.fields[name] = value

    def parts(self, prefix=""):
        """The numbers of all parts within, and the parts."""
        if self.kind == "multipart":
            for index, child in enumerate(self.children):
                yield f"{prefix}{index + 1}", child
                yield from child.inner(f"{prefix}{index + 1}.")
        else:
            yield prefix + "1", self
            yield from self.inner(prefix + "1.")

    def inner(self, prefix):
        if self.kind == "multipart":
            yield from self.parts(prefix)
        elif self.kind == "message":
            yield from self.children[0].parts(prefix)


def envelopes(ours, theirs):
    """Name, ours, theirs of each field that differs."""
    for place, our, their in zip(ENVELOPE, ours, theirs):
        if our != their:
            yield place, our, their
    if len(ours) != len(theirs):
        yield "length", len(ours), len(theirs)


def bodies(ours, theirs):
    """The same, and the two parts; of children only where they are as many."""
    if ours.kind != theirs.kind:
        yield ours, theirs, "form", ours.kind, theirs.kind
        return
    for name in [*ours.fields, *(name for name in theirs.fields if name not in ours.fields)]:
        our, their = ours.fields.get(name, MISSING), theirs.fields.get(name, MISSING)
        if our != their:
            yield ours, theirs, name, our, their
    if ours.envelope != theirs.envelope:
        for difference in envelopes(ours.envelope, theirs.envelope):
            yield ours, theirs, *difference
    if len(ours.children) != len(theirs.children):
        yield ours, theirs, "children", len(ours.children), len(theirs.children)
        return
    for our, their in zip(ours.children, theirs.children):
        yield from bodies(our, their)


class Mail:
    """All that both servers said of one mail."""

    def __init__(self, octets):
        self.octets = octets
        # By name: ours and theirs.
        self.items = {}
        # By number: kinds, ours before theirs.
        self.parts = {}
        self.our_parts = {}

    def take(self, items):
        self.items.update(items)
        for which, structure in enumerate(self.items["BODYSTRUCTURE"]):
            if isinstance(structure, list):
                for number, part in Body(structure).parts():
                    self.parts.setdefault(number, part.kind)
                    if which == 0:
                        self.our_parts[number] = part

    def cases(self):
        """Each item with its differences."""
        is_other_tree = False
        for name, (ours, theirs) in self.items.items():
            found = []
            lists = isinstance(ours, list) and isinstance(theirs, list)
            if ours == theirs:
                pass
            elif name == "ENVELOPE" and lists:
                found = [Case(self, name, *one) for one in envelopes(ours, theirs)]
            elif name in ("BODYSTRUCTURE", "BODY") and lists:
                for our, their, *one in bodies(Body(ours), Body(theirs)):
                    found.append(Case(self, name, *one, kind=our.kind, their_type=their.fields.get("type")))
                    is_other_tree |= one[0] in ("children", "form")
            else:
                found = [Case(self, name, "", ours, theirs)]
            for case in found:
                case.is_other_tree = is_other_tree
            yield name, found


class Case:
    """One difference."""

    def __init__(self, mail, name, place, ours, theirs, kind=None, their_type=None):
        self.mail, self.items = mail.octets, mail.items
        self.name, self.place, self.ours, self.theirs = name, place, ours, theirs
        self.their_type, self.is_other_tree = their_type, False
        number = re.search(r"\[([\d.]*\d)?", name)
        self.part = number.group(1) or "" if number else ""
        self.leaf = mail.our_parts.get(self.part)
        # leaf, message, multipart or whole; None for a part that is not there.
        self.kind = kind or (self.leaf.kind if self.leaf else None if self.part else "whole")

    def our_header(self):
        """Ours, of the message that a section is about."""
        return self.items[f"BODY[{self.part}.HEADER]" if self.part else "BODY[HEADER]"][0]

    def cut(self, octets):
        """What of a section the item asks for."""
        if self.name.startswith("BINARY.SIZE"):
            return str(len(octets))
        first = re.search(r"<(\d+)>$", self.name)
        first, count = (int(first.group(1)), 1000 if first.group(1) != "0" else 100) if first else (0, len(octets))
        return octets[first:first + count]

    def plain(self):
        """What BINARY says if there is nothing to undo."""
        return self.cut(self.items[f"BODY[{self.part}]"][0])

    def is_broken(self):
        """Whether a leaf breaks the grammar of its encoding."""
        octets = self.items[f"BODY[{self.part}]"][0]
        if self.leaf.fields["encoding"] == b"base64":
            letters = re.sub(rb"\s", b"", octets)
            return bool(re.search(rb"[^A-Za-z0-9+/=]", letters)) or any(
                len(text) % 4 == 1 for text in re.split(rb"=+", letters)
            )
        broken = rb"=(?![0-9A-Fa-f]{2}|[ \t]*\r?\n)"
        return self.leaf.fields["encoding"] == b"quoted-printable" and bool(re.search(broken, octets))

    def decoded(self):
        """What BINARY says of a leaf, by Python's own decoders."""
        octets = self.items[f"BODY[{self.part}]"][0]
        encoding = self.leaf.fields["encoding"] if self.leaf else b"7bit"
        if encoding == b"base64":
            octets = b"".join(unarmoured(text) for text in re.split(rb"=+", re.sub(rb"\s", b"", octets)))
        elif encoding == b"quoted-printable":
            # Python leaves spaces at the end of a line; RFC 2045 §6.7 (3) does not.
            octets = quopri.decodestring(re.sub(rb"[ \t]+(\r?\n|$)", rb"\1", octets))
        return self.cut(octets)


def unarmoured(text):
    """Base64 without its padding; nothing where half an octet is left."""
    return b"" if len(text) % 4 == 1 else binascii.a2b_base64(text + b"=" * (-len(text) % 4))


class Comparison:
    """Two sessions with the same mails."""

    def __init__(self, ours, theirs):
        self.clients = ours, theirs

    def mails(self, first, octets):
        """Some mails that follow each other, from the number of the first."""
        mails = {first + index: Mail(one) for index, one in enumerate(octets)}
        for number, items in self.asked([(number, WHOLE) for number in mails]).items():
            mails[number].take(items)
        wanted = [some for number, mail in mails.items() for some in of_parts(number, mail)]
        for number, items in self.asked(wanted).items():
            mails[number].items.update(items)
        return mails

    def asked(self, wanted):
        """By number and name: ours and theirs."""
        our, their = (answers(client, wanted) for client in self.clients)
        items = {number: {} for number, _ in wanted}
        for number, name in [*our, *(key for key in their if key not in our)]:
            key = (number, name)
            items[number][name] = our.get(key, MISSING), their.get(key, MISSING)
        return items


def of_parts(number, mail):
    """The number of a mail, and what is asked of all its parts by one FETCH, for some of them.

    Items that may fail have a FETCH of their own."""
    plain = [
        form.format(part) for part, kind in mail.parts.items()
        for form in PART + (MESSAGE if kind == "message" else [])
    ]
    binary = [form.format(part) for part in ["", *mail.parts] for form in BINARY]
    for items in (plain, binary):
        some, octets = [], 0
        for item in items:
            if octets + len(item) > LINE_OCTETS_MAX and some:
                yield number, some
                some, octets = [], 0
            some.append(item)
            octets += len(item) + 1
        if some:
            yield number, some


def answers(client, wanted):
    """Number and name of each item with its value; of one that cannot be had, status and code.

    A FETCH that fails is asked in halves, until it is known which of its items fail. Dovecot may
    send what belongs to a command before the end of the one before it."""
    found = {}
    while wanted:
        answers = client.all([f"FETCH {number} ({' '.join(items)})" for number, items in wanted])
        for answer in answers:
            for got, values in answer.fetches():
                named = ((name, value) for name, value in values.items() if name not in UNASKED)
                found.update(((got, name), value) for name, value in named)
        failed = [(*one, answer) for one, answer in zip(wanted, answers) if answer.status != "OK"]
        wanted = []
        for number, items, answer in failed:
            if len(items) > 1:
                half = len(items) // 2
                wanted += [(number, items[:half]), (number, items[half:])]
                continue
            code = re.match(r"\[([^\]]*)", answer.text)
            name = re.sub(r"<(\d+)\.\d+>", r"<\1>", items[0].replace(".PEEK", ""))
            found[number, name] = Failed(f"{answer.status} {code.group(1) if code else ''}".strip())
    return found
