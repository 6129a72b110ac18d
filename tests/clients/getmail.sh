# getmail reads by POP3 and deletes what it has.
# needs: getmail curl
# forms: pop3 clear tls
set -eu
say() { echo "getmail: $*" >&2; cat log >&2; exit 1; }
# It has no STLS.
case $FORM in
    clear) retriever=SimplePOP3Retriever trust= ;;
    tls) retriever=SimplePOP3SSLRetriever trust="ca_certs = $SERVER_CERT" ;;
esac
cat >getmailrc <<END
[retriever]
type = $retriever
server = $HOST
port = $PORT
username = $USER_ADDRESS
password = $PASSWORD
timeout = 60
$trust
[destination]
type = MDA_external
path = $PWD/take
allow_root_commands = true
[options]
delete = true
read_all = false
END
# It delivers as root to nothing but a command.
printf '#!/bin/sh\ncat >>%s/got\n' "$PWD" >take
chmod 700 take
for number in 1 2 3 4 5; do
    printf 'From: a@other.example\r\nSubject: %s\r\n\r\nFrom here\r\n' "$number" |
        curl -sS --max-time 60 "smtp://$HOST:$SMTP_PORT/client.example" \
            --mail-from a@other.example --mail-rcpt "$USER_ADDRESS" -T - 2>log || say "not sent"
done
getmail --getmaildir "$PWD" --rcfile getmailrc >log 2>&1 || say "getmail"
[ "$(grep -c '^Subject: ' got)" = 5 ] || say "$(grep -c '^Subject: ' got) messages"
left=$(curl -sS --max-time 60 -u "$USER_ADDRESS:$PASSWORD" "pop3://$HOST:$POP3_PORT/" | grep -c "^[0-9]" || true)
[ "$left" = 0 ] || say "$left are left"
