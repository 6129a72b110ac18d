# curl by imap:// and imaps://: lists mailboxes, uploads, reads parts, removes.
# needs: curl cmp
# forms: imap clear starttls tls
set -eu
say() { echo "curl: $*" >&2; exit 1; }
mail() { curl -sS --max-time 60 $CURL_FORM -u "$USER_ADDRESS:$PASSWORD" "$@"; }

printf 'From: a@other.example\r\nSubject: from curl\r\n\r\nline\r\n' >mail
mail "$URL/" | grep -q 'LIST (\\HasNoChildren) "/" INBOX' || say "INBOX is not listed"
mail "$URL/" -X 'CREATE Kept' >/dev/null || say "CREATE"
for number in 1 2 3; do mail "$URL/Kept" -T mail || say "not appended"; done
mail "$URL/Kept;UID=2" -o got
cmp got mail || say "message 2 is another"
mail "$URL/Kept;MAILINDEX=3;SECTION=TEXT" -o text
[ "$(cat text)" = "$(printf 'line\r')" ] || say "TEXT: $(cat text)"
mail "$URL/Kept" -X 'STORE 1 +FLAGS (\Deleted)' >/dev/null || say "STORE"
mail "$URL/Kept" -X EXPUNGE | grep -q '1 EXPUNGE' || say "EXPUNGE"
mail "$URL/" -X 'STATUS Kept (MESSAGES)' | grep -q 'MESSAGES 2' || say "STATUS"
code=0
curl -sS --max-time 60 $CURL_FORM -u "$USER_ADDRESS:wrong" "$URL/" >/dev/null 2>&1 || code=$?
[ "$code" = 67 ] || say "a wrong password was taken: $code"
