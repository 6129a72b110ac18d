# The unit of tuning/systemd under a systemd that runs: installed as docs/OPERATIONS.md says, in a machine of
# its own: namespaces, a layer over the file system, and a group of its own among the control groups.
#
#   systemd.sh BINARY DIRECTORY       as root; DIRECTORY is empty, and everything that is made is in it
#
# Exit status 77: this machine cannot have one. Nothing outside of DIRECTORY is written but that group.
set -eu
binary=$1 dir=$2
repository=$(cd "$(dirname "$0")/../.." && pwd)
group=pombal-test-$$

skip() { echo "skipped: $*"; exit 77; }
[ "$(id -u)" = 0 ] || skip "needs root"
init=
for path in /usr/lib/systemd/systemd /lib/systemd/systemd; do [ -x "$path" ] && init=$path; done
[ -n "$init" ] || skip "needs systemd"
for program in unshare nsenter pivot_root ip systemd-sysusers systemd-tmpfiles; do
    command -v "$program" >/dev/null || skip "needs $program"
done

# Where groups are made: the hierarchy of systemd beside the others, the one for all of them, or both.
groups=$(awk '$3 == "cgroup2" || ($3 == "cgroup" && $4 ~ /name=systemd/) { print $2 }' /proc/self/mounts)
[ -n "$groups" ] || skip "there are no control groups"
clean() {
    # All of the machine ends with it.
    [ -z "${guard:-}" ] || kill -KILL "${first:-$guard}" 2>/dev/null || true
    [ -z "${guard:-}" ] || wait "$guard" 2>/dev/null || true
    for root in $groups; do
        find "$root/$group" -depth -type d -exec rmdir {} \; 2>/dev/null || true
    done
}
trap clean EXIT
for root in $groups; do mkdir "$root/$group" 2>/dev/null || skip "no group can be made in $root"; done
unshare --mount --pid --fork --net --ipc --uts --cgroup true 2>/dev/null || skip "namespaces are not to be had"

cat >"$dir/pombal.toml" <<END
hostname = "mx.local.example"
data_dir = "/var/lib/pombal"
user = "pombal"
shards = 1
[listen]
smtp = ["127.0.0.1:25"]
submission = ["127.0.0.1:587"]
pop3 = ["127.0.0.1:110"]
imap = ["127.0.0.1:143"]
[store]
segment_size = "64M"
[auth]
allow_plaintext = true
END

# The first process of the machine: builds its file system, and becomes systemd.
cat >"$dir/boot" <<'END'
set -eu
mount --make-rprivate /
layers=$DIR/layers root=$DIR/layers/root
mkdir "$layers"
mount -t tmpfs tmpfs "$layers"
mkdir "$layers/upper" "$layers/work" "$root"
mount -t overlay -o "lowerdir=/,upperdir=$layers/upper,workdir=$layers/work" overlay "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
for path in run tmp dev var/lib; do mount -t tmpfs tmpfs "$root/$path"; done
# Links and devices of its own: what systemd makes there is not for everybody.
for node in null zero full random urandom tty; do cp -a "/dev/$node" "$root/dev/"; done
for path in pts shm mqueue hugepages; do mkdir "$root/dev/$path"; done
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t mqueue mqueue "$root/dev/mqueue"
mount -t tmpfs tmpfs "$root/dev/shm"
if [ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ]; then
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
else
    mount -t tmpfs tmpfs "$root/sys/fs/cgroup"
    mkdir "$root/sys/fs/cgroup/systemd" "$root/sys/fs/cgroup/unified"
    mount -t cgroup -o none,name=systemd cgroup "$root/sys/fs/cgroup/systemd"
    mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup/unified" 2>/dev/null || rmdir "$root/sys/fs/cgroup/unified"
fi
ip link set lo up
tuning=$REPOSITORY/tuning
install -m 755 "$BINARY" "$root/usr/bin/pombal"
install -D -m 644 "$DIR/pombal.toml" "$root/etc/pombal/pombal.toml"
install -D -m 644 "$tuning/sysusers.d/pombal.conf" "$root/etc/sysusers.d/pombal.conf"
install -D -m 644 "$tuning/tmpfiles.d/pombal.conf" "$root/etc/tmpfiles.d/pombal.conf"
install -D -m 644 "$tuning/systemd/pombal.service" "$root/etc/systemd/system/pombal.service"
systemd-sysusers --root="$root" pombal.conf
systemd-tmpfiles --root="$root" --create pombal.conf
printf '[Unit]\nWants=pombal.service systemd-journald.service\n' >"$root/etc/systemd/system/test.target"
: >"$root/etc/machine-id"
cd "$root"
mkdir .old
pivot_root . .old
umount -l /.old
exec env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin "$INIT" --system --unit=test.target </dev/null
END

(
    for root in $groups; do echo "$BASHPID" >"$root/$group/cgroup.procs"; done
    DIR=$dir REPOSITORY=$repository BINARY=$binary INIT=$init exec unshare --mount --pid --fork --kill-child \
        --net --ipc --uts --cgroup bash "$dir/boot"
) >"$dir/console" 2>&1 &
guard=$!

# Looks again until it is so; what ends it is the time that the test has as a whole.
until_so() { until "$@"; do kill -0 "$guard" 2>/dev/null || die "the machine has ended"; sleep 0.1; done; }
die() {
    echo "$*"
    cat "$dir/console"
    [ -z "${first:-}" ] || inside journalctl --no-pager -u pombal | tail -40
    exit 1
}
has_child() { first=$(pgrep -P "$guard") && [ -n "$first" ]; }
until_so has_child
inside() { nsenter -t "$first" -m -p -n -i -u -C "$@"; }
show() { inside systemctl show pombal --property "$1" --value; }
is() { [ "$(show "$1" 2>/dev/null)" = "$2" ]; }

# Type=notify: active once the server has said so.
is_up() {
    ! is ActiveState failed || die "it does not start"
    is ActiveState active
}
until_so is_up
[ "$(show StatusText)" = "serves on 1 shards" ] || die "it says $(show StatusText)"
main=$(show MainPID)
status() { inside sed -n "s/^$1:\t//p" "/proc/$main/status"; }
[ "$(inside id -un "$(status Uid | cut -f1)")" = pombal ] || die "it is $(status Uid)"
for set in CapPrm CapEff CapAmb CapInh; do
    [ "$(status "$set")" = 0000000000000000 ] || die "$set is $(status "$set")"
done
[ "$(status NoNewPrivs) $(status Seccomp)" = "1 2" ] || die "the unit does not hold it"
inside journalctl --no-pager -u pombal | grep -q 'event=sandbox landlock=. in_full=true' || die "no sandbox"

# Root's commands, mail in and out by ports below 1024.
inside pombal domain add local.example
echo secret | inside pombal user add ann@local.example --password-stdin
mail() {
    inside python3 - "$1" <<'END' || die "no mail"
import poplib, smtplib, sys
with smtplib.SMTP("127.0.0.1", 25) as client:
    client.sendmail("a@b.example", ["ann@local.example"], "Subject: x\r\n\r\nx\r\n")
drop = poplib.POP3("127.0.0.1", 110)
drop.user("ann@local.example")
drop.pass_("secret")
assert drop.stat()[0] == int(sys.argv[1]), drop.stat()
drop.quit()
END
}
mail 1

inside sed -i 's/mx\.local/mx2.local/' /etc/pombal/pombal.toml
inside systemctl reload pombal
told() { inside journalctl --no-pager -u pombal | grep -q "$1"; }
until_so told 'event=setting_changed key=hostname'
is MainPID "$main" || die "a reload is no restart"

# One that stands still is ended by the watchdog, and starts again with what it had.
inside kill -STOP "$main"
until_so is NRestarts 1
until_so is_up
mail 2

inside systemctl stop pombal
is ActiveState inactive && is Result success || die "it ended with $(show Result)"
told 'event=log_closed' || die "it did not come to its end"
# A wrong configuration is no reason to try again.
echo '[nothing]' | inside tee -a /etc/pombal/pombal.toml >/dev/null
if inside systemctl start pombal; then die "it started"; fi
is ActiveState failed || die "it tries again: $(show ActiveState)"
