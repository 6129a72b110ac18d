#!/usr/bin/env bash
# Exim and OpenSMTPD of Debian for tests/e2e/peers.rs, unpacked and not installed: a machine has one mail server,
# and here that is Postfix.
#
#   peers.sh DIRECTORY       DIRECTORY/exim and DIRECTORY/opensmtpd; what is there already stays
#
# As root, since Exim has to own itself. The libraries that they need are installed.
set -euo pipefail
dir=$1
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
. /etc/os-release

# The release has OpenSMTPD 6.8, which fails in every TLS handshake as a server with the OpenSSL of that release.
backports=
[ "${VERSION_CODENAME:-}" != bookworm ] || backports=$VERSION_CODENAME-backports

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Whom apt drops its rights to writes here.
chmod 777 "$work"

# Points apt at the backports alone, with lists of their own.
use_backports() {
    local from keys=/usr/share/keyrings/debian-archive-keyring.gpg
    from=$(apt-get indextargets --format '$(REPO_URI)' "Codename: $VERSION_CODENAME" 'Created-By: Packages' |
        grep -v security | head -1)
    mkdir -p "$work/state/lists/partial" "$work/cache/archives/partial"
    echo "deb [signed-by=$keys] ${from:-http://deb.debian.org/debian} $backports main" >"$work/sources.list"
    aside=(-o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$work/state/lists" -o "Dir::Cache=$work/cache" -o Acquire::Languages=none)
    get update
}

get() { apt-get ${aside[@]+"${aside[@]}"} -qq "$@"; }

# fetch NAME PACKAGE: unpacks it, and installs the libraries that it says it needs.
fetch() {
    local name=$1 package=$2 libraries
    [ ! -d "$dir/$name" ] || return 0
    (cd "$work" && { get download "$package" || { get update && get download "$package"; }; })
    dpkg -x "$work/$package"_*.deb "$work/$name"
    mapfile -t libraries < <(dpkg-deb -f "$work/$package"_*.deb Depends | tr , '\n' |
        sed -n 's/^ *\(lib[^ :]*\).*/\1/p')
    dpkg-query -W "${libraries[@]}" >/dev/null 2>&1 ||
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${libraries[@]}" >/dev/null
    # In one step: half of one would be taken for all of it.
    cp -a "$work/$name" "$dir/.$name" && mv "$dir/.$name" "$dir/$name"
}

aside=()
fetch exim exim4-daemon-light
if [ ! -d "$dir/opensmtpd" ]; then
    [ -z "$backports" ] || use_backports
    fetch opensmtpd opensmtpd
fi
