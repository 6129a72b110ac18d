# curl as a client: sends by smtp://, lists, reads, tops and deletes by pop3://.
# needs: curl cmp sed
set -eu
pop3="pop3://$HOST:$POP3_PORT"
say() { echo "curl: $*" >&2; exit 1; }
pop() { curl -sS --max-time 60 -u "$USER_ADDRESS:$PASSWORD" "$@"; }
# The message below our own Return-Path and Received, which is folded.
bare() { sed -e '1,/^\t.*[+-][0-9][0-9][0-9][0-9]\r$/d' "$1"; }

{
    printf 'From: a@other.example\r\nSubject: from curl\r\n\r\n'
    for line in $(seq 500); do printf '.line %s of the text\r\n.\r\n' "$line"; done
} >mail
for number in 1 2 3; do
    curl -sS --max-time 60 "smtp://$HOST:$SMTP_PORT/client.example" --mail-from a@other.example \
        --mail-rcpt "$USER_ADDRESS" --mail-rcpt "$OTHER_ADDRESS" -T mail || say "not sent"
done
code=0
curl -sS --max-time 60 "smtp://$HOST:$SMTP_PORT/client.example" --mail-from a@other.example \
    --mail-rcpt nobody@local.example -T mail 2>refused || code=$?
[ "$code" = 55 ] || say "nobody@local.example was taken: $code $(cat refused)"

[ "$(pop "$pop3/" | grep -c .)" = 3 ] || say "LIST has not three messages"
pop "$pop3/2" -o got
bare got >text
cmp text mail || say "message 2 is another"
pop "$pop3/" -X UIDL >ids
[ "$(sort -u ids | grep -c .)" = 3 ] || say "UIDL: $(cat ids)"
pop "$pop3/" -X 'TOP 1 0' | grep -q 'Subject: from curl' || say "TOP has no header"
pop -l "$pop3/1" -X DELE >/dev/null || say "DELE"
[ "$(pop "$pop3/" | grep -c .)" = 2 ] || say "nothing was deleted"
code=0
curl -sS --max-time 60 -u "$USER_ADDRESS:wrong" "$pop3/" >/dev/null 2>&1 || code=$?
[ "$code" = 67 ] || say "a wrong password was taken: $code"
