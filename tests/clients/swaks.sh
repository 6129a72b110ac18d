# swaks as a client: SMTP with and without pipelining, LMTP, several recipients, refusals.
# needs: swaks curl
# forms: smtp clear starttls
set -eu
say() { echo "swaks: $*" >&2; cat log >&2; exit 1; }
# It says so and fails where Perl lacks Net::SSLeay.
case $FORM in
    clear) tls=() ;;
    starttls) tls=(--tls --tls-verify --tls-ca-path "$SERVER_CERT") ;;
esac
send() {
    swaks --server "$HOST" --helo client.example --from a@other.example --timeout 60 "${tls[@]}" "$@" >log 2>&1
}
count() {
    curl -sS --max-time 60 -u "$USER_ADDRESS:$PASSWORD" "pop3://$HOST:$POP3_PORT/" | grep -c "^[0-9]" || true
}

send --port "$PORT" --to "$USER_ADDRESS" --header "Subject: plain" || say "plain"
send --port "$PORT" --to "$USER_ADDRESS" --pipeline --header "Subject: pipelined" ||
    say "pipelined"
send --port "$PORT" --to "$USER_ADDRESS,$OTHER_ADDRESS" --body "two" || say "two recipients"
send --port "$LMTP_PORT" --protocol LMTP --to "$USER_ADDRESS,$OTHER_ADDRESS" || say "LMTP"
printf '.\n..\n.a\n' >dots
send --port "$PORT" --to "$USER_ADDRESS" --body dots || say "dots"
# Who says HELO is offered nothing, so no STARTTLS.
form=("${tls[@]}") tls=()
send --port "$PORT" --to "$USER_ADDRESS" --protocol SMTP --body "HELO" || say "HELO"
tls=("${form[@]}")
[ "$(count)" = 6 ] || say "$(count) messages are there, not 6"
if send --port "$PORT" --to nobody@local.example; then say "an unknown user was taken"; fi
if send --port "$PORT" --to a@foreign.example; then say "it relays"; fi
grep -q '550 5.7.1' log || say "relaying is refused otherwise"
