# fetchmail reads by POP3 and keeps: what it has seen it does not fetch again.
# needs: fetchmail curl
# forms: pop3 clear starttls tls
set -eu
say() { echo "fetchmail: $*" >&2; cat log >&2; exit 1; }
send() {
    printf 'From: a@other.example\r\nSubject: %s\r\n\r\ntext\r\n' "$1" |
        curl -sS --max-time 60 "smtp://$HOST:$SMTP_PORT/client.example" \
            --mail-from a@other.example --mail-rcpt "$USER_ADDRESS" -T -
}
# It finds no address in a certificate, only names.
check="sslcertck sslcertfile $SERVER_CERT sslcommonname mx.local.example"
case $FORM in
    clear) tls="sslproto ''" ;;
    starttls) tls="sslproto 'TLS1.2+' $check" ;;
    tls) tls="ssl $check" ;;
esac
cat >rc <<END
set idfile ids
poll $HOST service $PORT protocol pop3 uidl timeout 60
  user "$USER_ADDRESS" password "$PASSWORD" keep
  $tls
  mda "cat >>got"
END
chmod 600 rc
# Exit status 1: there was nothing to fetch.
fetch() {
    FETCHMAILHOME=$PWD fetchmail -f rc --nosyslog --nodetach --pidfile "$PWD/pid" -v >log 2>&1
}

for number in 1 2 3; do send "$number" || say "not sent"; done
fetch || say "the first poll"
[ "$(grep -c '^Subject: ' got)" = 3 ] || say "$(grep -c '^Subject: ' got) messages, not 3"
code=0
fetch || code=$?
[ "$code" = 1 ] || say "the second poll: $code"
[ "$(grep -c '^Subject: ' got)" = 3 ] || say "fetched again"
send 4
fetch || say "the third poll"
[ "$(grep -c '^Subject: ' got)" = 4 ] || say "the new one did not come alone"
