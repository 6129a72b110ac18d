# curl as a user's program: SMTP with AUTH by a URL, to several recipients.
# needs: curl
# forms: submission clear starttls tls
set -eu
say() { echo "submission_curl: $*" >&2; exit 1; }
send() {
    curl -sS --max-time 60 $CURL_FORM "$URL/client.example" "$@" --upload-file mail
}
read_one() {
    curl -sS --max-time 60 -u "$USER_ADDRESS:$PASSWORD" "pop3://$HOST:$POP3_PORT/$1"
}

printf 'From: %s\r\nSubject: from curl\r\n\r\n.\r\ntext\r\n' "$USER_ADDRESS" >mail
for mechanism in PLAIN LOGIN; do
    send -u "$USER_ADDRESS:$PASSWORD" --login-options AUTH=$mechanism \
        --mail-from "$USER_ADDRESS" --mail-rcpt "$USER_ADDRESS" --mail-rcpt "$OTHER_ADDRESS" ||
        say "$mechanism"
done
read_one 2 >got
grep -q '^Date: ' got || say "no Date: $(cat got)"
printf '.\r\ntext\r\n' | cmp - <(tail -n 2 got) || say "another text: $(cat got)"
if send --mail-from "$USER_ADDRESS" --mail-rcpt "$USER_ADDRESS" 2>refused; then say "without AUTH"; fi
if send -u "$USER_ADDRESS:wrong" --mail-from "$USER_ADDRESS" --mail-rcpt "$USER_ADDRESS" 2>refused
then say "a wrong password"; fi
