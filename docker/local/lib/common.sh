# shellcheck shell=bash
# Messages, folders, locks, and small checks.

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

# need PACKAGE TOOL...
need() {
    local package=$1 tool
    shift
    for tool in "$@"; do command -v "$tool" >/dev/null || fail "no $tool on the path: install $package"; done
}

[[ -r /proc/self/cmdline ]] || fail "this needs Linux with /proc; elsewhere, docker/compose.yaml does the same with containers"
need util-linux flock setsid
need coreutils timeout od head tail sha256sum base64 tr date
need grep grep
need findutils find

start_timeout=${EXACTLYONCE_LOCAL_START_TIMEOUT:-180}
[[ $start_timeout =~ ^[1-9][0-9]{0,4}$ ]] || usage_error "EXACTLYONCE_LOCAL_START_TIMEOUT is '$start_timeout', but must be a number of seconds"

checkout=$(cd "$here/../.." && pwd)
dir=${EXACTLYONCE_LOCAL_DIR:-$checkout/target/services}
jars=${EXACTLYONCE_LOCAL_JARS:-$checkout/target/service-jars}
[[ $dir == /* ]] || dir=$PWD/$dir
[[ $jars == /* ]] || jars=$PWD/$jars
if [[ -d $dir ]]; then
    # One folder has one name, for the nodes' command lines hold it.
    dir=$(cd "$dir" 2>/dev/null && pwd -P) || fail "the folder $dir cannot be entered: check its permissions"
fi
# Both stand in class paths and property files, which have no quotes.
for path in "$dir" "$jars"; do
    [[ $path =~ ^[A-Za-z0-9/._+-]+$ ]] || fail "the folder '$path' has a character other than letters, digits and / . _ + -"
done

# make_folder FOLDER VARIABLE: VARIABLE is where its name came from.
make_folder() {
    mkdir -p "$1" 2>/dev/null || fail "the folder $1 cannot be made: check $2 and the permissions"
    [[ -w $1 && -x $1 ]] || fail "the folder $1 cannot be written to: check $2 and the permissions"
}

# One `up` or `down` of a folder at a time. `down --wipe` deletes the lock's file as well, so that who waited for
# it must look whether it is still the one.
lock_dir() {
    while true; do
        make_folder "$dir" EXACTLYONCE_LOCAL_DIR
        dir=$(cd "$dir" && pwd -P)
        exec 9>"$dir/lock"
        flock -w 900 9 || fail "another 'up' or 'down' of $dir has not ended in 900 s"
        [[ ! /proc/self/fd/9 -ef $dir/lock ]] || return 0
    done
}

# fill TEMPLATE TARGET NAME=VALUE...: replaces @NAME@.
fill() {
    local template=$1 target=$2 text pair
    shift 2
    text=$(<"$template")
    for pair in "$@"; do text=${text//"@${pair%%=*}@"/"${pair#*=}"}; done
    [[ ! $text =~ @[a-z_]+@ ]] || fail "$template: nothing to put for ${BASH_REMATCH[0]}"
    printf '%s\n' "$text" >"$target.new"
    mv "$target.new" "$target"
}
