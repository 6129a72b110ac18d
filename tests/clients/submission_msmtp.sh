# msmtp as a user's program: logs in by mechanisms that send the password, and hears refusals.
# needs: msmtp curl
# forms: submission clear starttls tls
set -eu
say() { echo "submission_msmtp: $*" >&2; exit 1; }
case $FORM in
    clear) tls=(--tls=off) ;;
    starttls) tls=(--tls=on --tls-starttls=on --tls-trust-file="$SERVER_CERT") ;;
    tls) tls=(--tls=on --tls-starttls=off --tls-trust-file="$SERVER_CERT") ;;
esac
secure=S
[ "$FORM" = clear ] && secure=
send() {
    msmtp --host="$HOST" --port="$PORT" "${tls[@]}" --timeout=60 \
        --user="$USER_ADDRESS" --passwordeval="echo $PASSWORD" "$@"
}
read_one() {
    curl -sS --max-time 60 -u "$USER_ADDRESS:$PASSWORD" "pop3://$HOST:$POP3_PORT/$1"
}

for mechanism in plain login; do
    printf 'From: %s\nTo: %s\nBcc: hidden@local.example\nSubject: %s\n\ntext\n' \
        "$USER_ADDRESS" "$USER_ADDRESS" "$mechanism" >mail
    send --auth=$mechanism --from="$USER_ADDRESS" "$USER_ADDRESS" <mail || say "$mechanism: not sent"
done
read_one 1 >got
grep -q "with ESMTP${secure}A" got || say "no ESMTP${secure}A: $(cat got)"
grep -q '^Message-ID: <' got || say "no Message-ID: $(cat got)"
if grep -qi '^bcc' got; then say "a blind copy is told: $(cat got)"; fi

refused() {
    code=0
    "$@" <mail 2>refused || code=$?
    [ "$code" != 0 ] || say "taken: $*"
}
refused send --auth=plain --from="$OTHER_ADDRESS" "$USER_ADDRESS"
grep -q '550' refused || say "another's sender: $(cat refused)"
send --auth=plain --from="$USER_ADDRESS" a@foreign.example <mail || say "another server's is not taken"
refused send --auth=off --from="$USER_ADDRESS" "$USER_ADDRESS"
grep -q '530' refused || say "who did not log in: $(cat refused)"
