# curl as a client: sends by smtp://, lists, reads, tops and deletes by pop3:// and pop3s://.
# needs: curl cmp sed
# forms: pop3 clear starttls tls
set -eu
say() { echo "curl: $*" >&2; exit 1; }
pop() { curl -sS --max-time 60 $CURL_FORM -u "$USER_ADDRESS:$PASSWORD" "$@"; }
# The message below our own Return-Path and Received, which is folded.
bare() { sed -e '1,/^\t.*[+-][0-9][0-9][0-9][0-9]\r$/d' "$1"; }

{
    printf 'From: a@other.example\r\nSubject: from curl\r\n\r\n'
    for line in $(seq 500); do printf '.line %s of the text\r\n.\r\n' "$line"; done
} >mail
for number in 1 2 3; do
    curl -sS --max-time 60 $CURL_FORM "smtp://$HOST:$SMTP_PORT/client.example" --mail-from a@other.example \
        --mail-rcpt "$USER_ADDRESS" --mail-rcpt "$OTHER_ADDRESS" -T mail || say "not sent"
done
code=0
curl -sS --max-time 60 $CURL_FORM "smtp://$HOST:$SMTP_PORT/client.example" --mail-from a@other.example \
    --mail-rcpt nobody@local.example -T mail 2>refused || code=$?
[ "$code" = 55 ] || say "nobody@local.example was taken: $code $(cat refused)"

[ "$(pop "$URL/" | grep -c .)" = 3 ] || say "LIST has not three messages"
pop "$URL/2" -o got
bare got >text
cmp text mail || say "message 2 is another"
pop "$URL/" -X UIDL >ids
[ "$(sort -u ids | grep -c .)" = 3 ] || say "UIDL: $(cat ids)"
pop "$URL/" -X 'TOP 1 0' | grep -q 'Subject: from curl' || say "TOP has no header"
pop -l "$URL/1" -X DELE >/dev/null || say "DELE"
[ "$(pop "$URL/" | grep -c .)" = 2 ] || say "nothing was deleted"
code=0
curl -sS --max-time 60 $CURL_FORM -u "$USER_ADDRESS:wrong" "$URL/" >/dev/null 2>&1 || code=$?
[ "$code" = 67 ] || say "a wrong password was taken: $code"
