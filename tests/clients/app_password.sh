# The password of a program by SCRAM: mbsync, which takes the strongest mechanism that is offered, and msmtp
# and mutt, which are told to take it.
# needs: msmtp mbsync mutt script curl
set -eu
say() { echo "app_password: $*" >&2; cat log >&2; exit 1; }
touch log
curl_() { curl -sS --max-time 60 -u "$USER_ADDRESS:$PASSWORD" "$@"; }
count() { curl_ "imap://$HOST:$IMAP_PORT/" -X "STATUS $1 (MESSAGES)" | sed -n 's/.*MESSAGES \([0-9]*\).*/\1/p'; }

printf 'From: %s\nTo: %s\nSubject: 1\n\ntext\n' "$USER_ADDRESS" "$USER_ADDRESS" >mail
number=0
for auth in on scram-sha-256 scram-sha-1 plain; do
    msmtp --host="$HOST" --port="$SUBMISSION_PORT" --tls=on --tls-starttls=on --tls-trust-file="$SERVER_CERT" \
        --timeout=60 --auth=$auth --user="$USER_ADDRESS" --passwordeval="echo $APP_PASSWORD" --debug \
        --from="$USER_ADDRESS" "$USER_ADDRESS" <mail >log 2>&1 || say "msmtp --auth=$auth"
    # By TLS it takes PLAIN by itself.
    [ "$auth" = on ] || grep -qi "^--> AUTH $auth" log || say "not by $auth"
    number=$((number + 1))
done
[ "$(count INBOX)" = "$number" ] || say "$(count INBOX) of $number were sent"

mkdir -p local
cat >rc <<END
IMAPAccount server
Host $HOST
Port $IMAPS_PORT
User $USER_ADDRESS
Pass $APP_PASSWORD
SSLType IMAPS
CertificateFile $SERVER_CERT
Timeout 60

IMAPStore far
Account server

MaildirStore near
Path $PWD/local/
Inbox $PWD/local/INBOX

Channel all
Far :far:
Near :near:
Create Near
SyncState *
END
mbsync -c rc -D all >log 2>&1 || say "mbsync"
grep -q 'AUTHENTICATE SCRAM-SHA-' log || say "mbsync took another one"
[ "$(find local/INBOX -type f -name '*,*' | wc -l)" = "$number" ] || say "mbsync brought others"

cat >rc <<END
set folder = "imaps://$HOST:$IMAPS_PORT/"
set spoolfile = "+INBOX"
set imap_user = "$USER_ADDRESS"
set imap_pass = "$APP_PASSWORD"
set imap_authenticators = "scram-sha-256"
set certificate_file = "$SERVER_CERT"
set confirmappend = no
set confirmcreate = no
set delete = yes
set quit = yes
set move = no
push "<first-entry><save-message>=Archive<enter><sync-mailbox><quit>"
END
TERM=vt100 timeout 60 script -qec "mutt -d 2 -F rc" /dev/null </dev/null >log 2>&1 || say "mutt ended with $?"
[ "$(count Archive)" = 1 ] || say "mutt saved nothing"
grep -q 'AUTHENTICATE SCRAM-SHA-' "$HOME/.muttdebug0" || say "mutt took another one"
