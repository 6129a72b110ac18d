#!/usr/bin/env bash
# testssl against every port of a running server: no finding above LOW may be there.
#
# tests/measure/testssl.sh NAME CA.pem PORT[:STARTTLS]…   e.g. mx.example ca.pem 993 465 25:smtp 143:imap
# The server runs on this machine and shows a certificate for NAME that CA.pem signed. Some
# minutes for each port.
set -euo pipefail
name=$1 ca=$2
shift 2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
bad=0
for port in "$@"; do
    starttls=()
    [[ $port == *:* ]] && starttls=(-t "${port#*:}")
    json=$work/${port%%:*}.json
    testssl --quiet --color 0 --warnings off --add-ca "$ca" --ip 127.0.0.1 "${starttls[@]}" \
        --jsonfile "$json" "$name:${port%%:*}" >"$work/said" 2>&1 || true
    python3 - "$json" "$port" <<'PYTHON' || bad=1
import json, sys
findings = json.load(open(sys.argv[1]))
grave = [one for one in findings if one["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")]
for one in grave:
    print(f"{sys.argv[2]}: {one['severity']} {one['id']}: {one['finding']}")
print(f"{sys.argv[2]}: {len(findings)} findings, {len(grave)} above low")
sys.exit(bool(grave) or len(findings) < 50)
PYTHON
done
exit "$bad"
