#!/usr/bin/env bash
# The power-cut rig: load on a real file system, images of what a power cut leaves, every answer
# checked. Needs root, /dev/fuse, loop devices, nbdfuse (Debian: libnbd-bin fuse3); says so and
# ends with 0 where one of them is missing.
#
#   tests/rig/run.sh                                30 images of each program
#   tests/rig/run.sh IMAGES=5 SECONDS_MAX=60        fewer, and an end after a minute
#   tests/rig/run.sh PROGRAMS="store serve" SEED=1  some of the programs:
#       store-without-sync        the log, answering before its sync: must be caught
#       store                     the log as it is
#       serve-answers-from-later  the server, held to answers that it gave too late: must be caught
#       serve                     the server as it is, under loadgen audit with POP3 deletions
#       serve-imap                the same under loadgen audit --imap
#
# Prints a line for each image and a summary for each program. Exit 1 if a program lost an answer,
# or if one that must be caught was not.
set -euo pipefail
cd "$(dirname "$0")/../.."

IMAGES=30 SECONDS_MAX=900 SEED=$RANDOM PROGRAMS="store-without-sync store serve-answers-from-later serve serve-imap" PROFILE=release
for setting in "$@"; do
    case $setting in
    IMAGES=* | SECONDS_MAX=* | SEED=* | PROGRAMS=* | PROFILE=*) declare "$setting" ;;
    *)
        sed -n '2,/^set/p' "$0" | grep '^#' | cut -c3- >&2
        exit 2
        ;;
    esac
done
TARGET=${CARGO_TARGET_DIR:-$PWD/target}/$PROFILE

skip() {
    echo "rig: SKIPPED, nothing was tested: $1"
    exit 0
}
[ "$(id -u)" -eq 0 ] || skip "it mounts, so it must be root"
[ -c /dev/fuse ] || skip "there is no /dev/fuse"
[ -c /dev/loop-control ] || skip "there is no /dev/loop-control"
for tool in nbdfuse:libnbd-bin fusermount3:fuse3 losetup:mount mkfs.ext4:e2fsprogs python3:python3; do
    command -v "${tool%%:*}" >/dev/null || skip "${tool%%:*} is missing (Debian: ${tool##*:})"
done

# At once: one by one the library would be built for each.
cargo build --quiet --locked --profile "$PROFILE" --workspace --bins --example rig-writer

WORK=$(mktemp -d -t pombal-rig.XXXXXX)
RIG=
# Whatever happened: processes, then mounts from the last to the first, loops, the disk, the files.
clean() {
    [ -z "$RIG" ] || kill "$RIG" 2>/dev/null || true
    [ -z "$RIG" ] || wait "$RIG" 2>/dev/null || true
    local pid path
    for path in "$WORK/live" "$WORK/after"; do
        grep -q " $path " /proc/mounts || continue
        # Only what has its data here: these are ours.
        for pid in $(grep -lzs -- "$WORK/" /proc/[0-9]*/cmdline | cut -d/ -f3); do
            [ "$pid" = $$ ] || case $(cat "/proc/$pid/comm") in
            pombal | loadgen | rig-writer) kill -KILL "$pid" 2>/dev/null || true ;;
            esac
        done
        umount "$path" 2>/dev/null || { sleep 1; umount "$path" || umount --lazy "$path"; } || true
    done
    losetup --list --noheadings --output NAME,BACK-FILE | while read -r loop file; do
        case $file in "$WORK"/*) losetup --detach "$loop" || true ;; esac
    done
    ! grep -q " $WORK/disk.file " /proc/mounts || fusermount3 -u -z "$WORK/disk.file" || true
    rm -rf --one-file-system "$WORK"
}
trap clean EXIT
trap 'exit 143' TERM INT HUP

# shellcheck disable=SC2086  # PROGRAMS is a list
timeout --kill-after=30 $((SECONDS_MAX + 60)) python3 -B tests/rig/rig.py \
    --work "$WORK" --images "$IMAGES" --seed "$SEED" --seconds "$SECONDS_MAX" \
    --writer "$TARGET/examples/rig-writer" --pombal "$TARGET/pombal" --loadgen "$TARGET/loadgen" \
    $PROGRAMS &
RIG=$!
status=0
wait "$RIG" || status=$?
RIG=
exit "$status"
