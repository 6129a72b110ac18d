#!/usr/bin/env bash
# testssl against every port that speaks TLS: no finding above LOW may be there, and no check may fail.
#
# tests/measure/testssl.sh [--full] [NAME CA.pem PORT[:STARTTLS]…]
#                                         e.g. mx.example ca.pem 993 465 25:smtp 143:imap
# Without ports it starts a server of its own (CARGO_TARGET_DIR/debug/pombal, or POMBAL) and looks at all seven
# of its listeners. With them the server runs on this machine, and shows a certificate for NAME that
# CA.pem signed. JOBS (4) ports are looked at side by side: testssl waits more than it works. About
# 15 seconds of a core for each port.
#
# On each port: protocols (-p), ciphers by category (-s), forward secrecy (-f), what the server prefers
# (-P) and shows, its certificate too (-S), and all vulnerabilities (-U).
# What --full adds grades nothing that these do not, and takes five minutes a port:
#   -e   370 ciphers, one by one: -s asks for all of them by category, -P lists those that are taken
#   -E   the same once more for each protocol
#   -c   what some forty clients would agree on: told, not graded
#   -g   how it takes odd handshakes: the same; src/tls/tests.rs and tests/clients/tls.py have worse ones
# HTTP (-h) is not spoken here. Nobody is asked for revocation or by DNS: the network is not needed.
set -euo pipefail
JOBS=${JOBS:-4}
sections=(-p -s -f -P -S -U)
if [ "${1:-}" = --full ]; then
    sections=(--full)
    shift
fi

work=$(mktemp -d)
server=
finish() {
    [ -z "$server" ] || { kill "$server" && wait "$server" || true; }
    rm -rf "$work"
}
trap finish EXIT

# A server with a certificate that somebody signed, on ports that nobody has.
serve() {
    local binary=${POMBAL:-${CARGO_TARGET_DIR:-$(dirname "$0")/../../target}/debug/pombal}
    local ports
    name=mx.local.example ca=$work/ca.pem
    (
        cd "$work"
        curve=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
        openssl req -x509 "${curve[@]}" -keyout ca.key -out ca.pem -subj "/CN=Those who sign" \
            -days 3650 -addext basicConstraints=critical,CA:TRUE
        openssl req "${curve[@]}" -keyout key.pem -out request.pem -subj "/CN=$name"
        # As authorities do, which say where they list what they revoked.
        printf '%s\n' "subjectAltName=DNS:$name" "extendedKeyUsage=serverAuth" \
            "crlDistributionPoints=URI:http://crl.local.example/list" >extensions
        openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 90 \
            -extfile extensions -out certificate.pem
        mkdir data
    ) 2>"$work/openssl" || { cat "$work/openssl"; exit 1; }
    # Below those that the kernel gives to connections.
    ports=$(python3 - <<'PYTHON'
import random, socket
held = []
while len(held) < 7:
    one = socket.socket()
    try:
        one.bind(("127.0.0.1", random.randrange(10_000, 30_000)))
        held.append(one)
    except OSError:
        pass
print(*(one.getsockname()[1] for one in held))
PYTHON
    )
    read -r smtp submission submissions imap imaps pop3 pop3s <<<"$ports"
    cat >"$work/pombal.toml" <<TOML
hostname = "$name"
data_dir = "$work/data"
shards = 2
[listen]
smtp = ["127.0.0.1:$smtp"]
submission = ["127.0.0.1:$submission"]
submissions = ["127.0.0.1:$submissions"]
imap = ["127.0.0.1:$imap"]
imaps = ["127.0.0.1:$imaps"]
pop3 = ["127.0.0.1:$pop3"]
pop3s = ["127.0.0.1:$pop3s"]
[tls]
certificate = "$work/certificate.pem"
key = "$work/key.pem"
TOML
    "$binary" --config "$work/pombal.toml" serve >"$work/log" 2>&1 &
    server=$!
    until grep -q event=ready "$work/log"; do
        kill -0 "$server" 2>/dev/null || { cat "$work/log"; exit 1; }
        sleep 0.1
    done
    doors=("$smtp:smtp" "$submission:smtp" "$submissions" "$imap:imap" "$imaps" "$pop3:pop3" "$pop3s")
}

# look PORT[:STARTTLS]: leaves what was found in $work/PORT.json.
look() {
    local port=${1%%:*} starttls=()
    [[ $1 == *:* ]] && starttls=(-t "${1#*:}")
    rm -f "$work/$port.json"
    testssl --quiet --color 0 --warnings off --nodns none --add-ca "$ca" --ip 127.0.0.1 "${starttls[@]}" \
        "${sections[@]}" --jsonfile "$work/$port.json" "$name:$port" >"$work/$port.said" 2>&1 || true
}

# judge PORT[:STARTTLS]: tells what was found that must not be. 2: a check could not be made.
judge() {
    python3 - "$work/${1%%:*}.json" "$1" <<'PYTHON'
import json, sys
path, port = sys.argv[1:]
try:
    findings = json.load(open(path))
except (OSError, ValueError) as error:
    sys.exit(f"{port}: testssl found nothing: {error}")
grave = [one for one in findings if one["severity"] in ("MEDIUM", "HIGH", "CRITICAL", "FATAL")]
# The openssl of distributions has no GOST; and s_client, at the end of its input, does not wait for the
# ticket that TLS 1.3 has behind the handshake: tests/clients/tls.py sees to those.
excused = ("engine_problem", "sessionresumption_ticket")
failed = [one for one in findings if one["severity"] == "WARN" and one["id"] not in excused]
for one in grave + failed:
    print(f"{port}: {one['severity']} {one['id']}: {one['finding']}")
print(f"{port}: {len(findings)} findings, {len(grave)} above low, {len(failed)} checks failed")
sys.exit(1 if grave or len(findings) < 50 else 2 if failed else 0)
PYTHON
}

if [ $# -eq 0 ]; then
    serve
else
    name=$1 ca=$2
    shift 2
    doors=("$@")
fi
for door in "${doors[@]}"; do
    while [ "$(jobs -rp | grep -vcx "${server:-none}")" -ge "$JOBS" ]; do wait -n; done
    look "$door" &
    looking+=($!)
done
wait "${looking[@]}"
bad=0
for door in "${doors[@]}"; do
    status=0
    judge "$door" || status=$?
    if [ "$status" -eq 2 ]; then
        # It gives up soon where the machine is busy.
        echo "$door: once more, alone"
        look "$door"
        status=0
        judge "$door" || status=$?
    fi
    [ "$status" -eq 0 ] || bad=1
done
if [ -n "$server" ] && grep -E 'level=error|panicked' "$work/log"; then
    echo "the server had errors"
    bad=1
fi
exit "$bad"
