# shellcheck shell=bash
# Messages, the folder, and small checks.

say() { printf 'cluster: %s\n' "$*" >&2; }

fail() {
    printf 'cluster: error: %s\n' "$*" >&2
    exit 1
}

usage_error() {
    printf "cluster: error: %s ('%s help')\n" "$*" "$0" >&2
    exit 2
}

# one_of NAME VALUE ALLOWED...
one_of() {
    local name=$1 value=$2 allowed
    shift 2
    for allowed in "$@"; do [[ $value != "$allowed" ]] || return 0; done
    usage_error "$name is '$value', but may be one of: $*"
}

checkout=$(cd "$here/../.." && pwd)
dir=${EXACTLYONCE_LOCAL_DIR:-$checkout/target/services}
[[ $dir == /* ]] || dir=$PWD/$dir
jars=${EXACTLYONCE_LOCAL_JARS:-$checkout/target/service-jars}
[[ $jars == /* ]] || jars=$PWD/$jars
# Both stand in class paths and property files, which have no quotes.
for path in "$dir" "$jars"; do
    [[ $path =~ ^[A-Za-z0-9/._+-]+$ ]] || fail "the folder '$path' has a character other than letters, digits and / . _ + -"
done

make_dir() {
    mkdir -p "$dir" 2>/dev/null || fail "the folder $dir cannot be made: check EXACTLYONCE_LOCAL_DIR and its permissions"
    [[ -w $dir && -x $dir ]] || fail "the folder $dir cannot be written to: check EXACTLYONCE_LOCAL_DIR and its permissions"
    dir=$(cd "$dir" && pwd -P)
}
[[ ! -d $dir ]] || dir=$(cd "$dir" && pwd -P) || fail "the folder $dir cannot be entered: check its permissions"

# fill TEMPLATE TARGET NAME=VALUE...: replaces @NAME@.
fill() {
    local template=$1 target=$2 text pair
    shift 2
    text=$(<"$template")
    for pair in "$@"; do text=${text//"@${pair%%=*}@"/"${pair#*=}"}; done
    [[ $text =~ @[a-z_]+@ ]] && fail "$template: nothing to put for ${BASH_REMATCH[0]}"
    printf '%s\n' "$text" >"$target"
}
