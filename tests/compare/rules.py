"""Where the two may differ: each rule is as narrow as what it is about, and names who says so.

The rules are tried in the order of this file on a `fetch.Case`; one returns true if the difference
is what it is about. Fields are looked for in the whole mail, since parts have fields too.
"""

import re

RULES = {}


def rule(name, section, text):
    """Makes a function a rule: its name, who says that we are right, and what he says."""

    def take(function):
        RULES[name] = (section, text, function)
        return function

    return take


def strings(value):
    """All strings of a value."""
    if isinstance(value, list):
        return [string for one in value for string in strings(one)]
    return [value] if isinstance(value, bytes) else []


def unfolded(text):
    return re.sub(rb"[\r\n]", b"", text).strip()


def fields(case, *names):
    """Values of all fields of some names, wherever in the mail they stand."""
    pattern = rb"(?im)^(?:%s)[ \t]*:((?:[^\n]|\n[ \t])*)" % b"|".join(name.encode() for name in names)
    return [unfolded(value) for value in re.findall(pattern, case.mail)]


ADDRESSES = ("from", "sender", "reply-to", "to", "cc", "bcc")
TOKEN = rb"[^\x00-\x20()<>@,;:\\\"/\[\]?=\x7f-\xff]+"
COMMENT = rb"(?:\s|\([^()]*\))*"
PARAMS = re.compile(
    rb"(?:%s/)?%s%s(?:;%s%s%s=%s(?:%s|\"(?:[^\"\\]|\\.)*\")%s)*;?\s*"
    % (TOKEN, TOKEN, COMMENT, COMMENT, TOKEN, COMMENT, COMMENT, TOKEN, COMMENT), re.S
)


def broken(case, *names):
    """Whether a field that our strings stand in breaks the grammar of RFC 2045."""
    return any(not PARAMS.fullmatch(value) for value in fields(case, *names))


@rule("a part that is not there", "RFC 9051 §4.5", "NIL says that it does not exist, an empty string does not")
def no_such_part(case):
    return case.ours is None and case.theirs == b"" and not case.kind


@rule("US-ASCII in small letters", "RFC 2046 §4.1.2", "the name of a charset has no case: ours is spelt as in the mail")
def small_letters(case):
    if case.place != "params" or not case.ours or not case.theirs:
        return False
    return [value.lower() for value in case.ours] == case.theirs and b"us-ascii" in case.theirs


@rule("an empty line that is not there", "RFC 9051 §6.4.5.1", "a header without one, and without a body, is sent without one")
def empty_line(case):
    if "HEADER.FIELDS" not in case.name or not isinstance(case.ours, bytes):
        return False
    return not case.our_header().endswith(b"\n\r\n") and case.theirs in (case.ours + b"\r\n", case.ours + b"\n")


@rule("From more than once", "RFC 5322 §4.5", "what more of them mean is not said; ours is the first")
def repeated_from(case):
    if case.place not in ("from", "sender", "reply-to") or not case.ours or not case.theirs:
        return False
    return len(fields(case, case.place, "from")) > 1 and case.theirs[:len(case.ours)] == case.ours


@rule("a field more than once", "RFC 5322 §4.5", "what more of them mean is not said; ours is the first")
def repeated_field(case):
    name = f"content-{case.place}" if case.place == "disposition" else case.place
    if not case.place or case.place in ADDRESSES:
        return False
    values = [value.lower() for value in fields(case, name)]

    def first(strings):
        places = [at for at, value in enumerate(values) if all(one.lower() in value for one in strings)]
        return places[0] if strings and places else None

    ours, theirs = first(strings(case.ours)), first(strings(case.theirs))
    return ours is not None and theirs is not None and ours < theirs


@rule("space around a value", "RFC 5322 §3.2.2", "folds and spaces around it are no part of it")
def space_around(case):
    return bool(case.place) and isinstance(case.theirs, bytes) and case.theirs.strip() == case.ours


@rule("a field with a name that is none", "RFC 5322 §2.2", "a name has printable octets only: Subject with a NUL is no Subject")
def no_name(case):
    return (case.place == "subject" or "HEADER.FIELDS" in case.name) and b"\nSubject\x80" in case.mail


@rule("an address that ends in the middle", "RFC 5322 §3.4", "what breaks the grammar: ours keeps what stands there")
def syntax_error(case):
    return case.place in ADDRESSES and b"SYNTAX_ERROR" in strings(case.theirs)


@rule("nothing between two commas", "RFC 5322 §4.4", "an empty element of an address list is no address")
def empty_element(case):
    nothing = [None, None, b"MISSING_MAILBOX", b"MISSING_DOMAIN"]
    return case.place in ADDRESSES and case.theirs and case.ours == [one for one in case.theirs if one != nothing]


@rule("addresses behind a broken one", "RFC 5322 §3.4", "what breaks the grammar: ours goes on at the next comma")
def goes_on(case):
    if case.place not in ADDRESSES or not case.ours or not case.theirs:
        return False
    return len(case.ours) > len(case.theirs) and case.ours[:len(case.theirs)] == case.theirs


@rule("a quoted string beside an atom", "RFC 5322 §4.4", "a local part is words between dots; ours reads them as one, and keeps the domain")
def quoted_beside(case):
    if case.place not in ADDRESSES or b"MISSING_DOMAIN" not in strings(case.theirs):
        return False
    return any(re.search(rb'"[^"]*"[^\s"<>,@]+@', value) for value in fields(case, *ADDRESSES))


@rule("a Content-Type without a type", "RFC 2045 §5.2", "it is text/plain; charset=us-ascii; Dovecot shows empty strings")
def no_type(case):
    return case.place in ("type", "subtype", "params", "lines") and case.their_type == b""


@rule("parameters that break the grammar", "RFC 2045 §5.1", "what they mean is not said; ours takes what can be read")
def broken_params(case):
    if case.place in ("params", "form", "children"):
        return broken(case, "content-type")
    return case.place == "disposition" and broken(case, "content-disposition")


@rule("a boundary that is too long", "RFC 2046 §5.1.1", "at most 70 octets; ours takes all of them, Dovecot the first 80")
def long_boundary(case):
    return case.place == "children" and bool(re.search(rb'boundary="?[^"\s;]{81}', case.mail))


@rule("an encoding that stands there", "RFC 2045 §6.1", "ours is what the field says; Dovecot says 7bit of one with a semicolon, or without a Content-Type")
def encoding(case):
    return case.place == "encoding" and case.theirs == b"7bit" and any(
        value.lower().rstrip(b";") == case.ours for value in fields(case, "content-transfer-encoding")
    )


@rule("a line end before a boundary", "RFC 2046 §5.1.1", "it belongs to the boundary, not to the part; nor does what follows belong to the header before it")
def line_end(case):
    if case.place in ("octets", "lines") and case.kind == "message":
        return int(case.theirs) - int(case.ours) == (2 if case.place == "octets" else 1)
    if not (case.part and isinstance(case.ours, bytes) and isinstance(case.theirs, bytes)):
        return False
    if "HEADER.FIELDS" in case.name and not case.ours.endswith(b"\r\n"):
        return case.theirs.startswith(case.ours + b"\r\n")
    return case.theirs == case.ours + b"\r\n" and case.ours + b"\r\n--" in case.mail


@rule("parts of a mail that was taken apart otherwise", "RFC 2046 §5.1.1", "see the rules for its boundary")
def other_parts(case):
    return bool(case.part or case.name.startswith("BINARY")) and case.is_other_tree


@rule("BINARY of what holds parts", "RFC 9051 §6.4.5", "only the encoding of the section itself is undone; Dovecot undoes those within and edits headers")
def inner_encodings(case):
    if not case.name.startswith("BINARY") or case.kind not in ("multipart", "message", "whole"):
        return False
    ours = case.ours.replace(b"\0", b"\x80") if isinstance(case.ours, bytes) else case.ours
    return ours == case.plain()


@rule("BINARY.SIZE that is none", "RFC 9051 §7.5.2", "it must be the size of what BINARY says: ours is, theirs is not")
def wrong_size(case):
    if not case.name.startswith("BINARY.SIZE"):
        return False
    our, their = case.items[f"BINARY[{case.part}]"]
    sizes = isinstance(our, bytes) and isinstance(their, bytes) and our == their
    return sizes and case.ours == str(len(our)) and case.theirs != str(len(their))


@rule("BINARY of a body that is broken", "RFC 9051 §6.4.5", "NO with UNKNOWN-CTE; Dovecot says NO with PARSE, or BYE")
def broken_body(case):
    if not case.name.startswith("BINARY") or case.ours != "NO UNKNOWN-CTE":
        return False
    return case.theirs in ("NO PARSE", "BYE") and case.is_broken()


@rule("BINARY of a part beside a broken one", "RFC 9051 §6.4.5", "this one can be decoded; Dovecot says NO with PARSE, or BYE")
def broken_neighbour(case):
    if not case.name.startswith("BINARY") or case.theirs not in ("NO PARSE", "BYE", "NO UNKNOWN-CTE"):
        return False
    return case.ours == case.decoded()
