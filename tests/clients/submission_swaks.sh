# swaks as a user's program: AUTH PLAIN and LOGIN, each refusal, a report on delivery. Of what the server
# offers it can no other mechanism: SCRAM is in sasl.py (gsasl) and scram_plus.py, EXTERNAL in external.py,
# OAUTHBEARER and XOAUTH2 in tests/e2e/oauth.rs.
# needs: swaks curl
# forms: submission clear starttls tls
set -eu
say() { echo "submission_swaks: $*" >&2; cat log >&2; exit 1; }
# It says so and fails where Perl lacks Net::SSLeay.
case $FORM in
    clear) tls=() ;;
    starttls) tls=(--tls --tls-verify --tls-ca-path "$SERVER_CERT") ;;
    tls) tls=(--tls-on-connect --tls-verify --tls-ca-path "$SERVER_CERT") ;;
esac
send() {
    swaks --server "$HOST" --port "$PORT" "${tls[@]}" --helo client.example --timeout 60 \
        --header-From "$USER_ADDRESS" "$@" >log 2>&1
}
login() {
    mechanism=$1; shift
    send --auth "$mechanism" --auth-user "$USER_ADDRESS" --auth-password "$PASSWORD" "$@"
}
count() {
    curl -sS --max-time 60 -u "$USER_ADDRESS:$PASSWORD" "pop3://$HOST:$POP3_PORT/" | grep -c "^[0-9]" || true
}

for mechanism in PLAIN LOGIN; do
    login $mechanism --from "$USER_ADDRESS" --to "$USER_ADDRESS" || say "$mechanism"
done
login PLAIN --from "<>" --to "$USER_ADDRESS" || say "the null sender"
login PLAIN --pipeline --from "$USER_ADDRESS" --to "$USER_ADDRESS,$OTHER_ADDRESS" || say "pipelined"
[ "$(count)" = 4 ] || say "$(count) messages are there, not 4"

if send --from "$USER_ADDRESS" --to "$USER_ADDRESS"; then say "without AUTH"; fi
grep -q '530 5.7.0' log || say "no 530"
if send --auth PLAIN --auth-user "$USER_ADDRESS" --auth-password wrong \
    --from "$USER_ADDRESS" --to "$USER_ADDRESS"; then say "a wrong password"; fi
grep -q '535 5.7.8' log || say "no 535"
if login PLAIN --from "$OTHER_ADDRESS" --to "$USER_ADDRESS"; then say "another's sender"; fi
grep -q '550 5.7.1' log || say "no 550"
if login PLAIN --from "$USER_ADDRESS" --to "$USER_ADDRESS" --header-From "$OTHER_ADDRESS"; then
    say "another's From"
fi
grep -q '550 5.7.1' log || say "no 550 for From"
if login PLAIN --from "$USER_ADDRESS" --to a@unqualified; then say "half a domain"; fi
grep -q '554 5.1.2' log || say "no 554"
login PLAIN --from "$USER_ADDRESS" --to a@foreign.example || say "another server's is not taken"
