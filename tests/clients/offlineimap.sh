# offlineimap: fifty mails come, flags go back, a second run has nothing to do.
# needs: offlineimap python3
# forms: imap clear starttls tls
set -eu
say() { echo "offlineimap: $*" >&2; tail -40 log >&2; exit 1; }
case $FORM in
    clear) tls=$(printf 'ssl = no\nstarttls = no') ;;
    starttls) tls=$(printf 'ssl = no\nstarttls = yes\nsslcacertfile = %s' "$SERVER_CERT") ;;
    tls) tls=$(printf 'ssl = yes\nsslcacertfile = %s' "$SERVER_CERT") ;;
esac
# It finds no address in a certificate, only names.
host=localhost
[ "$FORM" != clear ] || host=$HOST
# Behind STARTTLS its library (imaplib2 3.05) reads the tickets of TLS 1.3 in one thread while another
# writes, which OpenSSL does not allow: often its first command is never sent, or Python crashes.
if [ "$FORM" = starttls ]; then
    cat >openssl.cnf <<END
openssl_conf = all
[all]
ssl_conf = ssl
[ssl]
system_default = most
[most]
MaxProtocol = TLSv1.2
END
    export OPENSSL_CONF=$PWD/openssl.cnf
fi
cat >rc <<END
[general]
accounts = one
metadata = $PWD/meta
ui = basic
[Account one]
localrepository = near
remoterepository = far
[Repository near]
type = Maildir
localfolders = $PWD/local
[Repository far]
type = IMAP
remotehost = $host
remoteport = $PORT
remoteuser = $USER_ADDRESS
remotepass = $PASSWORD
$tls
auth_mechanisms = PLAIN, LOGIN
END
run() { offlineimap -o -c rc >log 2>&1; }
imap() {
    python3 - "$@" <<END
import imaplib, sys
client = imaplib.IMAP4("$HOST", $IMAP_PORT, timeout=60)
client.login("$USER_ADDRESS", "$PASSWORD")
if sys.argv[1] == "fill":
    for number in range(50):
        text = f"From: a@other.example\r\nSubject: {number}\r\n\r\n{number}\r\n"
        assert client.append("INBOX", None, None, text.encode())[0] == "OK"
else:
    print(client.status("INBOX", f"({sys.argv[1]})")[1][0].split()[-1].strip(b")").decode())
END
}
imap fill || say "not filled"
run || say "the first run"
[ "$(find local/INBOX -type f | wc -l)" = 50 ] || say "$(find local/INBOX -type f | wc -l) of 50 came"
for file in $(find local/INBOX/new -type f | head -20); do
    mv "$file" "local/INBOX/cur/$(basename "${file%%:*}"):2,S"
done
run || say "the second run"
[ "$(imap UNSEEN)" = 30 ] || say "$(imap UNSEEN) unseen, not 30"
find local -type f | sort >before
run || say "the third run"
find local -type f | sort | cmp - before || say "the third run changed something"
[ "$(imap MESSAGES)" = 50 ] || say "doubles"
