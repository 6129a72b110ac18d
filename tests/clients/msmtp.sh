# msmtp as a sender: many recipients in one transaction, a refused one, 8-bit text.
# needs: msmtp curl
# forms: smtp clear starttls
set -eu
say() { echo "msmtp: $*" >&2; exit 1; }
case $FORM in
    clear) tls=(--tls=off) ;;
    starttls) tls=(--tls=on --tls-starttls=on --tls-trust-file="$SERVER_CERT") ;;
esac
send() {
    msmtp --host="$HOST" --port="$PORT" "${tls[@]}" --auth=off --timeout=60 \
        --from=a@other.example "$@"
}
# What has recipients of both shards comes to the other one a moment behind the answer.
read_one() {
    for _ in $(seq 600); do
        curl -sS --max-time 60 -u "$USER_ADDRESS:$PASSWORD" "pop3://$HOST:$POP3_PORT/$1" && return
        sleep 0.1
    done
    return 1
}

printf 'Subject: from msmtp\nContent-Type: text/plain; charset=utf-8\n\nGrüße\n.\nEnde\n' >mail
send "$USER_ADDRESS" "$OTHER_ADDRESS" <mail || say "not sent"
code=0
send "$USER_ADDRESS" nobody@local.example <mail 2>refused || code=$?
[ "$code" != 0 ] || say "an unknown user was taken"
grep -q '550' refused || say "no 550: $(cat refused)"
read_one 1 | tr -d '\r' | tail -n 6 >got
cmp got mail || say "another text: $(cat got)"
