# mutt in batch: reads the index by IMAP, saves a message into another mailbox, marks and removes.
# needs: mutt curl script
set -eu
imap="imap://$HOST:$IMAP_PORT"
say() { echo "mutt: $*" >&2; cat log >&2; exit 1; }
curl_() { curl -sS --max-time 60 -u "$USER_ADDRESS:$PASSWORD" "$@"; }
for number in 1 2 3; do
    printf 'From: a@other.example\r\nSubject: number %s\r\n\r\ntext\r\n' "$number" >mail
    curl_ "$imap/INBOX" -T mail || say "not appended"
done
cat >rc <<END
set folder = "imap://$HOST:$IMAP_PORT/"
set spoolfile = "+INBOX"
set imap_user = "$USER_ADDRESS"
set imap_pass = "$PASSWORD"
set ssl_starttls = no
set ssl_force_tls = no
set confirmappend = no
set confirmcreate = no
set delete = yes
set quit = yes
set move = no
set mark_old = no
set header_cache = "$PWD/cache"
push "<first-entry><save-message>=Archive<enter><next-entry><flag-message><sync-mailbox><quit>"
END
TERM=vt100 timeout 60 script -qec "mutt -F rc" /dev/null </dev/null >log 2>&1 || say "it ended with $?"
status() { curl_ "$imap/" -X "STATUS $1 (MESSAGES)" | sed -n 's/.*MESSAGES \([0-9]*\).*/\1/p'; }
[ "$(status INBOX)" = 2 ] || say "INBOX has $(status INBOX)"
[ "$(status Archive)" = 1 ] || say "Archive has $(status Archive)"
