"""The mails of the corpus beside the repository, as tests/e2e/corpus.rs reads them."""

import os
import re

FOLDERS = ["messages", "spamham", "bounces", "eai", "calendar", "tnef", "mbox", "auth", "encodings", "bodies"]


class Mail:
    """`octets` with CRLF line ends; a lone CR stays."""

    def __init__(self, name, raw):
        self.name = name
        self.octets = re.sub(rb"\r?\n", b"\r\n", raw)

    def header(self):
        return re.split(rb"(?:^|\r\n)\r\n", self.octets, maxsplit=1)[0]


def mails(root):
    """In the order of their files; none without the corpus."""
    found = []
    for folder in FOLDERS:
        files = (
            os.path.join(dir, file)
            for dir, _, files in os.walk(os.path.join(root, folder)) for file in files
        )
        for path in sorted(files):
            name = os.path.relpath(path, root)
            with open(path, "rb") as file:
                raw = file.read()
            if folder == "mbox":
                found += (Mail(f"{name}#{index}", one) for index, one in enumerate(split_mbox(raw)))
            else:
                found.append(Mail(name, raw))
    return found


def split_mbox(raw):
    """The mails between the From_ lines (RFC 4155); a file without any is one mail."""
    found = []
    for line in re.findall(rb"[^\n]*\n|[^\n]+", raw):
        if line.startswith(b"From "):
            found.append(b"")
        elif found:
            found[-1] += line
        else:
            found.append(line)
    return found
