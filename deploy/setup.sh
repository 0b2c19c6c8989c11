#!/bin/sh
# Prepare a fresh Debian or Ubuntu for one of: test, demo, bench, lint.   deploy/setup.sh test
#
# Installs the Debian packages that are missing and a virtual environment in .venv with exactly what
# requirements.txt pins. A second run finds everything done and ends at once, without network.
# It starts no service and removes no package: where installing Postfix would push another mail server
# out, Postfix is unpacked into .cache/packages instead. It fails with the words of apt or pip.
set -eu
cd "$(dirname "$0")/.."
want=${1:-test}

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

common="libmagic1 ca-certificates"
servers="postfix dovecot-imapd dovecot-lmtpd"
case $want in
    lint) packages=$common unpack= ;;
    demo) packages="$common $servers swaks msmtp curl" unpack= ;;
    bench) packages="$common postfix opendkim gcc libc6-dev" unpack= ;;
    test)
        packages="$common $servers opendkim opendkim-tools swaks msmtp curl isync mutt postgresql gcc libc6-dev strace poppler-utils openssl"
        unpack="exim4-daemon-light libnss-wrapper cyrus-common cyrus-imapd"
        ;;
    *) fail "unknown purpose '$want': test, demo, bench or lint" ;;
esac

# ---------------------------------------------------------------- Python
# The distribution's own first: it is kept secure by apt, and is often built to run faster than one made by hand.
usable() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }
complete() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }
python=
for name in ${PYTHON:-/usr/bin/python3 python3.13 python3.12 python3.11 python3}; do
    usable "$name" || continue
    [ -n "$python" ] || python=$name
    if complete "$name"; then python=$name; break; fi
done
[ -n "$python" ] || fail "Python 3.11 or later is needed, and none was found"
if [ ! -x .venv/bin/python ] && ! complete "$python"; then
    packages="$packages $("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
fi

# ---------------------------------------------------------------- Debian packages
present() { dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }
apt() { # apt-get as root, asking nothing and starting nothing
    if [ "$(id -u)" = 0 ]; then
        DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 NEEDRESTART_MODE=l apt-get -qq -o Dpkg::Use-Pty=0 "$@" </dev/null
    else
        command -v sudo >/dev/null || fail "neither root nor sudo; missing: $missing"
        sudo DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 NEEDRESTART_MODE=l apt-get -qq -o Dpkg::Use-Pty=0 "$@" </dev/null
    fi
}
fresh=no
refresh() { # package lists, once, and only when something is missing from them
    [ $fresh = no ] || return 0
    fresh=yes
    say "reading the package lists"
    apt update || say "the package lists could not be read; going on with those that are here"
}
removes() { apt-get -s --no-install-recommends install "$@" 2>/dev/null | grep -q '^Remv'; }
known() { apt-cache show "$1" >/dev/null 2>&1; }
browser() { # Debian packages it; Ubuntu's package is a shell around a snap, Playwright's own is taken there
    [ "$want" = test ] || return 1
    ! command -v chromium >/dev/null && grep -q '^ID=debian' /etc/os-release
}
browser && packages="$packages chromium"

missing=
for package in $packages; do present "$package" || missing="$missing $package"; done
if [ -n "$missing" ]; then
    command -v apt-get >/dev/null || fail "not Debian or Ubuntu; install these by hand:$missing"
    for package in $missing; do known "$package" || refresh; done
    case " $missing " in
        *" postfix "*)
            if removes postfix; then
                say "another mail server is installed and stays; Postfix will be unpacked beside it"
                missing=$(printf '%s' "$missing" | sed 's/ postfix\( \|$\)/ /') unpack="$unpack postfix"
            fi
            ;;
    esac
fi
if [ -n "${missing# }" ]; then
    # shellcheck disable=SC2086  # a list of words
    removes $missing && fail "apt would remove packages to install:$missing"
    say "installing$missing"
    quiet=/usr/sbin/policy-rc.d # RUNLEVEL keeps init scripts quiet, this keeps systemd quiet
    as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
    if [ ! -e $quiet ]; then
        trap 'as_root rm -f /usr/sbin/policy-rc.d' EXIT INT TERM
        printf '#!/bin/sh\nexit 101\n' | as_root tee $quiet >/dev/null
        as_root chmod 755 $quiet
    fi
    # shellcheck disable=SC2086
    if ! apt --no-install-recommends install $missing; then
        refresh
        # shellcheck disable=SC2086
        apt --no-install-recommends install $missing || fail "apt could not install:$missing"
    fi
fi

# ---------------------------------------------------------------- packages that are only unpacked
for package in $unpack; do
    target=.cache/packages/$package
    [ -d "$target" ] && continue
    known "$package" || refresh
    libraries=$(apt-cache depends "$package" | sed -n 's/^ *\(Pre\)\{0,1\}Depends: \(lib[a-z0-9.+-]*\)$/\2/p')
    needed=
    for library in $libraries; do present "$library" || needed="$needed $library"; done
    # shellcheck disable=SC2086
    [ -z "$needed" ] || apt --no-install-recommends install $needed || fail "apt could not install:$needed"
    say "unpacking $package"
    work=$(mktemp -d)
    chmod 777 "$work"
    if ! (cd "$work" && apt-get -qq download "$package"); then
        refresh
        (cd "$work" && apt-get -qq download "$package") || fail "$package could not be fetched"
    fi
    mkdir -p .cache/packages
    dpkg -x "$work"/*.deb "$target.new" && mv "$target.new" "$target"
    rm -rf "$work"
done

# ---------------------------------------------------------------- the virtual environment
[ -x .venv/bin/python ] || { say "making .venv with $python"; "$python" -m venv .venv; }
stamp=.venv/stamp-$(cat requirements.txt pyproject.toml deploy/setup.sh | sha256sum | cut -c1-16)
if [ ! -e "$stamp" ]; then
    say "installing the pinned Python packages"
    .venv/bin/python -m pip install -q --disable-pip-version-check --no-input --require-hashes -r requirements.txt
    .venv/bin/python -m pip install -q --disable-pip-version-check --no-input --no-deps --no-build-isolation -e .
    rm -f .venv/stamp-*
    touch "$stamp"
fi
if [ "$want" = test ] && ! command -v chromium >/dev/null && [ ! -e .venv/browser ]; then
    say "fetching a browser for the dashboard's tests"
    .venv/bin/python -m playwright install --with-deps chromium >/dev/null
    touch .venv/browser
fi
