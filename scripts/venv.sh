# Sourced by the other scripts: finds Python, makes .venv when it is absent or incomplete, installs what is asked for.
# Sets `root` (the checkout) and `python` (the one in .venv).

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
python=$root/.venv/bin/python

say() { printf '%s: %s\n' "scripts/$(basename -- "$0")" "$*"; }
die() { say "error: $*" >&2; exit 1; }

system_python() {
    local candidate
    for candidate in python3 python3.13 python3.12 python3.11 python; do
        if command -v "$candidate" >/dev/null \
            && "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    die "Python 3.11 or newer is needed; found $(python3 --version 2>&1 || echo none). Install one (Debian 12: apt-get install python3 python3-venv)"
}

# install EXTRAS: makes sure .venv holds this project with these extras ("" for the core only).
install() {
    local extras=$1 want stamp=$root/.venv/.vsr-installed
    if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        local base
        base=$(system_python)
        say "making $root/.venv with $("$base" --version)"
        rm -rf -- "$root/.venv"
        "$base" -m venv "$root/.venv" \
            || die "$base cannot make a virtual environment (Debian: apt-get install python3-venv)"
    fi
    # The stamp remembers what was installed from which lists, so a second run does not ask the package index again.
    want=$({ echo "$root"; cat "$root/pyproject.toml" "$root/constraints.txt"; } | sha256sum | cut -c1-16)
    if grep -qsxF -- "$want $extras" "$stamp"; then
        say "using $root/.venv"
        return
    fi
    say "installing vsr${extras:+[$extras]} into $root/.venv"
    "$python" -m pip install --quiet --disable-pip-version-check \
        -c "$root/constraints.txt" -e "$root${extras:+[$extras]}" \
        || die "pip could not install vsr${extras:+[$extras]}; its message is above"
    grep -qs -- "^$want " "$stamp" || : >"$stamp"
    printf '%s %s\n' "$want" "$extras" >>"$stamp"
}
