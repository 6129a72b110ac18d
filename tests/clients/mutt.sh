# mutt in batch: reads the index by IMAP, where mail is new at first and old the next time, saves a
# message into another mailbox, marks and removes.
# needs: mutt curl script
# forms: imap clear starttls tls
set -eu
say() { echo "mutt: $*" >&2; cat log >&2; exit 1; }
curl_() { curl -sS --max-time 60 $CURL_FORM -u "$USER_ADDRESS:$PASSWORD" "$@"; }
for number in 1 2 3; do
    printf 'From: a@other.example\r\nSubject: number %s\r\n\r\ntext\r\n' "$number" >mail
    curl_ "smtp://$HOST:$SMTP_PORT" --mail-from a@other.example --mail-rcpt "$USER_ADDRESS" -T mail ||
        say "not delivered"
done
case $FORM in
    clear) tls=$(printf 'set ssl_starttls = no\nset ssl_force_tls = no') ;;
    *) tls=$(printf 'set ssl_starttls = yes\nset ssl_force_tls = yes') ;;
esac
cat >rc <<END
set folder = "$URL/"
set spoolfile = "+INBOX"
set imap_user = "$USER_ADDRESS"
set imap_pass = "$PASSWORD"
$tls
set certificate_file = "$SERVER_CERT"
set confirmappend = no
set confirmcreate = no
set delete = yes
set quit = yes
set move = no
set index_format = "<%Z>%s"
set header_cache = "$PWD/cache"
push "<first-entry><save-message>=Archive<enter><next-entry><flag-message><sync-mailbox><quit>"
END
mutt_() { TERM=vt100 timeout 60 script -qec "mutt -F rc" /dev/null </dev/null >log 2>&1 || say "it ended with $?"; }
mutt_
# RFC 3501 §2.3.2: nobody was told of them before.
grep -q '<N.*>number 2' log || say "number 2 is not new"
status() { curl_ "$URL/" -X "STATUS $1 (MESSAGES)" | sed -n 's/.*MESSAGES \([0-9]*\).*/\1/p'; }
[ "$(status INBOX)" = 2 ] || say "INBOX has $(status INBOX)"
[ "$(status Archive)" = 1 ] || say "Archive has $(status Archive)"
sed -i 's/^push .*/push "<quit>"/' rc
mutt_
grep -q '<O.*>number 3' log || say "number 3 is not old"
