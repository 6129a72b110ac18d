"""An IMAP client that sends many commands at once and reads every answer into a tree.

Strings are `bytes`, however they were sent; NIL is `None`; numbers and other atoms are `str`; lists
are `list`. A FETCH is a `dict` from the item, in capitals, to its value.
"""

import re
import socket

LITERAL = re.compile(rb"~?\{(\d+)\}\r\n$")
TOKEN = re.compile(
    rb' *(?:(\()|(\))|"((?:[^"\\]|\\.)*)"|~?\{(\d+)\}\r\n|([^\s()"\[\]]+(?:\[[^\]]*\])?(?:<\d+>)?))', re.S
)
ESCAPE = re.compile(rb"\\(.)", re.S)

# Commands under way; no more of them than a socket holds while nobody reads the answers.
AT_ONCE = 40
OCTETS_AT_ONCE = 32_000


class Tree:
    """Reads values off the front of a response."""

    def __init__(self, octets, at=0):
        self.octets, self.at = octets, at

    def next(self):
        """The next value; `Tree.next` itself where a list ends."""
        found = TOKEN.match(self.octets, self.at)
        if not found:
            raise ValueError(f"no IMAP at {self.at}: {self.octets[self.at:self.at + 60]!r}")
        self.at = found.end()
        opens, closes, quoted, literal, atom = found.groups()
        if opens:
            values = []
            while (value := self.next()) is not Tree.next:
                values.append(value)
            return values
        if closes:
            return Tree.next
        if quoted is not None:
            return ESCAPE.sub(rb"\1", quoted) if b"\\" in quoted else quoted
        if literal is not None:
            self.at += int(literal)
            return self.octets[self.at - int(literal):self.at]
        return None if atom.upper() == b"NIL" else atom.decode("latin-1")


def fetched(values):
    """The dictionary of a FETCH."""
    return {name.upper(): value for name, value in zip(values[::2], values[1::2])}


class Answer:
    """All that came for one command."""

    def __init__(self, status, text, untagged):
        self.status, self.text, self.untagged = status, text, untagged

    def fetches(self):
        """Number and dictionary of each message."""
        for line in self.untagged:
            found = re.match(rb"\* (\d+) FETCH ", line)
            if found:
                yield int(found.group(1)), fetched(Tree(line, found.end()).next())

    def lines(self, name):
        """The texts behind the untagged responses of this name."""
        start = b"* " + name.encode() + b" "
        return [line[len(start):].strip() for line in self.untagged if line.startswith(start)]


class Closed(Exception):
    """The server ended the session; its last words."""


class Client:
    """A session, and the next one where the server ends it."""

    def __init__(self, port, user, password):
        self.port, self.login = port, f"LOGIN {user} {password}"
        self.opening = []
        self.open()

    def open(self):
        self.socket = socket.create_connection(("127.0.0.1", self.port), timeout=120)
        self.input = self.socket.makefile("rb", buffering=1 << 18)
        self.count = 0
        self.response()
        for command in [self.login, *self.opening]:
            self.done(command)

    def select(self, mailbox):
        """Also in sessions after this one."""
        self.opening = [f"SELECT {mailbox}"]
        self.done(self.opening[0])

    def response(self):
        """One response with its literals."""
        whole = b""
        while True:
            line = self.input.readline()
            if not line.endswith(b"\n"):
                raise Closed("without a BYE")
            whole += line
            literal = LITERAL.search(line)
            if not literal:
                break
            whole += self.input.read(int(literal.group(1)))
        if whole.startswith(b"* BYE "):
            raise Closed(whole[6:].decode().strip())
        return whole

    def all(self, commands):
        """The answers to many commands, some under way at a time. One that ends the session gets
        the status BYE, what follows it goes to the next session."""
        answers = []
        alone = False
        while len(answers) < len(commands):
            first, lines = self.count, b""
            for text in commands[len(answers):len(answers) + (1 if alone else AT_ONCE)]:
                if self.count > first and len(lines) + len(text) > OCTETS_AT_ONCE:
                    break
                text = text if isinstance(text, bytes) else text.encode()
                lines += b"%d %s\r\n" % (self.count, text)
                self.count += 1
            sent = self.count - first
            self.socket.sendall(lines)
            try:
                for index in range(sent):
                    answers.append(self.answer(first + index))
                alone = False
            except Closed as why:
                # It may have been one of those behind it.
                if sent == 1:
                    answers.append(Answer("BYE", str(why), []))
                alone = sent > 1
                self.socket.close()
                self.open()
        return answers

    def answer(self, tag):
        untagged = []
        while True:
            line = self.response()
            if line.startswith(b"* "):
                untagged.append(line)
                continue
            got, status, text = (line.decode("latin-1").rstrip() + " ").split(" ", 2)
            if got != str(tag):
                raise RuntimeError(f"{line!r} for the command {tag}")
            return Answer(status, text.strip(), untagged)

    def done(self, command):
        """The answer to one command that must not fail."""
        answer, = self.all([command])
        if answer.status != "OK":
            raise RuntimeError(f"{command[:60]!r}: {answer.status} {answer.text}")
        return answer
