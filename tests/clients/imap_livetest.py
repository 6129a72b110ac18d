"""IMAPClient's own live test, where IMAPClient is installed: its cases by UID, and by number.

What fails must be named here; against Dovecot the same fails.
"""
# needs: python3

import os
import re
import subprocess
import sys

# Of IMAPClient 4.1.
KNOWN = {
    "test_fetch": "asks an Envelope for its length, which is none any more",
    "test_move": "without UIDs: imaplib has no MOVE",
    "test_small_connection_timeout_fail": "wants a connection that takes over a millisecond",
    "test_small_read_timeout_fail": "wants an answer that takes over ten microseconds",
}
# What the server does not offer, and a case that is about UIDs alone.
SKIPS = {
    "Server doesn't support XLIST",
    "Server doesn't support ACL",
    "Server doesn't support labels",
    "Server doesn't support Gmail search",
    "test instance not configured for UID operations",
}

try:
    import imapclient.livetest
except ImportError:
    print("IMAPClient is not installed")
    sys.exit(int(os.environ.get("CLIENTS_REQUIRED", 0)))

with open("live.ini", "w", encoding="ascii") as ini:
    ini.write("[DEFAULT]\nhost = {HOST}\nport = {IMAP_PORT}\nusername = {USER_ADDRESS}\n"
              "password = {PASSWORD}\nssl = false\n".format(**os.environ))
command = [sys.executable, "-W", "ignore", "-m", "imapclient.livetest", "live.ini", "-v"]
run = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
wrong = re.findall(r"^(?:FAIL|ERROR): (\w+) ", run.stderr, re.M)
skips = re.findall(r"\.\.\. skipped [\"'](.*)[\"']$", run.stderr, re.M)
unknown = [case for case in wrong if case not in KNOWN] + [why for why in skips if why not in SKIPS]
count = re.search(r"^Ran (\d+) tests", run.stderr, re.M)
if unknown or not count or int(count[1]) < 50:
    print(run.stderr)
    sys.exit(f"wrong: {unknown}")
print(count[0], "wrong, and known:", wrong)
