# mbsync (isync) keeps a Maildir and the server alike, both ways; a second run has nothing to do.
# needs: mbsync curl
# forms: imap clear starttls tls
set -eu
say() { echo "mbsync: $*" >&2; tail -30 log >&2; exit 1; }
mkdir -p local
case $FORM in
    clear) tls='SSLType None' ;;
    starttls) tls=$(printf 'SSLType STARTTLS\nCertificateFile %s' "$SERVER_CERT") ;;
    tls) tls=$(printf 'SSLType IMAPS\nCertificateFile %s' "$SERVER_CERT") ;;
esac
cat >rc <<END
IMAPAccount server
Host $HOST
Port $PORT
User $USER_ADDRESS
Pass $PASSWORD
$tls
AuthMechs PLAIN LOGIN
Timeout 60

IMAPStore far
Account server

MaildirStore near
Path $PWD/local/
Inbox $PWD/local/INBOX
SubFolders Verbatim

Channel all
Far :far:
Near :near:
Patterns *
Create Both
Remove Both
Expunge Both
SyncState *
CopyArrivalDate yes
END
sync() { mbsync -c rc -V all >log 2>&1; }
far() {
    curl -sS --max-time 60 -u "$USER_ADDRESS:$PASSWORD" "imap://$HOST:$IMAP_PORT/" \
        -X "STATUS $1 ($2)" | sed -n "s/.*$2 \([0-9]*\).*/\1/p"
}
near() { find "local/$1/cur" "local/$1/new" -type f | wc -l; }

sync || say "the first run"
[ -d local/Sent/cur ] || say "Sent did not come"
# 250 that the server has, 250 that only the Maildir has, in a new mailbox.
python3 - <<END || say "not appended"
import imaplib
client = imaplib.IMAP4("$HOST", $IMAP_PORT, timeout=60)
client.login("$USER_ADDRESS", "$PASSWORD")
for number in range(250):
    text = f"From: a@other.example\r\nSubject: far {number}\r\nMessage-ID: <{number}@far>\r\n\r\n{number}\r\n"
    assert client.append("INBOX", r"(\Seen)" if number % 2 else None, None, text.encode())[0] == "OK"
client.logout()
END
mkdir -p local/Work/cur local/Work/new local/Work/tmp
for number in $(seq 250); do
    printf 'From: b@other.example\nSubject: near %s\nMessage-ID: <%s@near>\n\n%s\n' \
        "$number" "$number" "$number" >"local/Work/cur/1700000000.$number.near:2,S"
done
sync || say "the second run"
[ "$(near INBOX)" = 250 ] || say "$(near INBOX) of 250 came"
[ "$(far Work MESSAGES)" = 250 ] || say "$(far Work MESSAGES) of 250 went"
[ "$(far Work UNSEEN)" = 0 ] || say "flags did not go"
[ "$(find local/INBOX/cur -name '*:2,*S*' | wc -l)" = 125 ] || say "flags did not come"
find local -type f | grep -v mbsyncstate | sort >before
sync || say "the third run"
find local -type f | grep -v mbsyncstate | sort | cmp - before || say "the third run changed something"
[ "$(far Work MESSAGES)" = 250 ] && [ "$(far INBOX MESSAGES)" = 250 ] || say "doubles"
# Removed on either side.
find local/Work/cur -name '1700000000.*' | head -100 | xargs rm -f
rm -f $(find local/Work/cur -type f | head -50)
curl -sS --max-time 60 -u "$USER_ADDRESS:$PASSWORD" "imap://$HOST:$IMAP_PORT/INBOX" \
    -X 'STORE 1:100 +FLAGS (\Deleted)' >/dev/null
left=$(near Work)
sync || say "the fourth run"
[ "$(far Work MESSAGES)" = "$left" ] || say "$(far Work MESSAGES) left, not $left"
[ "$(near INBOX)" = 150 ] && [ "$(far INBOX MESSAGES)" = 150 ] || say "$(near INBOX) left, not 150"
