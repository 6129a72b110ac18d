# mpop reads with pipelining into a maildir; keeps first, then removes.
# needs: mpop curl
# forms: pop3 clear starttls tls
set -eu
say() { echo "mpop: $*" >&2; exit 1; }
case $FORM in
    clear) tls='tls off' ;;
    starttls) tls=$(printf 'tls on\ntls_starttls on\ntls_trust_file %s' "$SERVER_CERT") ;;
    tls) tls=$(printf 'tls on\ntls_starttls off\ntls_trust_file %s' "$SERVER_CERT") ;;
esac
cat >rc <<END
account default
host $HOST
port $PORT
user $USER_ADDRESS
password $PASSWORD
$tls
auth user
timeout 60
uidls_file $PWD/ids
delivery maildir $PWD/maildir
END
chmod 600 rc
mkdir -p maildir/new maildir/cur maildir/tmp
fetch() { mpop -C rc -q "$@"; }
count() { find maildir/new -type f | wc -l; }

for number in $(seq 40); do
    printf 'Subject: %s\r\n\r\n.text\r\n' "$number" |
        curl -sS --max-time 60 "smtp://$HOST:$SMTP_PORT/client.example" \
            --mail-from a@other.example --mail-rcpt "$USER_ADDRESS" -T - || say "not sent"
done
fetch --keep=on || say "the first time"
[ "$(count)" = 40 ] || say "$(count) messages"
fetch --keep=on || say "the second time"
[ "$(count)" = 40 ] || say "fetched again"
[ "$(cat maildir/new/* | grep -c '^\.text')" = 40 ] || say "dots"
rm ids
fetch --keep=off || say "the third time"
left=$(curl -sS --max-time 60 -u "$USER_ADDRESS:$PASSWORD" "pop3://$HOST:$POP3_PORT/" | grep -c "^[0-9]" || true)
[ "$left" = 0 ] || say "$left are left"
