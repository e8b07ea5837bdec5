# shellcheck shell=bash
# What a cluster was made with. `up` writes it into the folder, every other command reads it from there, so that
# they agree whatever the environment says.

settings_file=cluster.settings
# Settings that the data depend on keep their first values; all others may change at the next `up`.
settings_fixed=(KAFKA_NODES CASSANDRA_NODES SECURE KAFKA_PORT CQL_PORT STORAGE_PORT JMX_PORT ADDRESS_PREFIX CASSANDRA_VERSION)
settings_free=(KAFKA_HEAP KAFKA_SETTINGS CASSANDRA_HEAP JVM COMMITLOG_SYNC)
declare -A settings_default=(
    [KAFKA_NODES]=1 [CASSANDRA_NODES]=1 [SECURE]=no [KAFKA_PORT]=9092 [CQL_PORT]=9042 [STORAGE_PORT]=7000 [JMX_PORT]=7199
    [ADDRESS_PREFIX]=127.0.0 [CASSANDRA_VERSION]=5.0.5 [KAFKA_HEAP]=512m [KAFKA_SETTINGS]="" [CASSANDRA_HEAP]=512m [JVM]=quick [COMMITLOG_SYNC]=batch
)

# Sets a variable for each setting from the file; fails if there is none.
settings_load() {
    [[ -e $dir/$settings_file ]] || fail "no cluster in $dir: '$0 up' makes one (EXACTLYONCE_LOCAL_DIR names the folder)"
    local name value
    while IFS='=' read -r name value; do
        [[ -v settings_default[${name:-?}] ]] || fail "$dir/$settings_file: '$name' is no setting"
        printf -v "$name" '%s' "$value"
    done <"$dir/$settings_file"
    for name in "${settings_fixed[@]}" "${settings_free[@]}"; do
        # A setting that is newer than the folder has its default.
        [[ -n ${!name-} ]] || printf -v "$name" '%s' "${settings_default[$name]}"
    done
    settings_check
}

# settings_for_up KAFKA CASSANDRA SECURE: what the command line and the environment ask for, over what the folder
# holds, over the defaults. An empty argument asks for nothing.
settings_for_up() {
    local name variable wanted known=""
    local -A asked=([KAFKA_NODES]=$1 [CASSANDRA_NODES]=$2 [SECURE]=$3)
    for name in "${settings_fixed[@]:3}" "${settings_free[@]}"; do
        variable=EXACTLYONCE_LOCAL_$name
        asked[$name]=${!variable-}
    done
    if [[ -e $dir/$settings_file ]]; then
        known=yes
        settings_load
    elif [[ -n $(find "$dir" -mindepth 1 -maxdepth 1 ! -name lock -print -quit) ]]; then
        fail "$dir holds files, but no cluster: choose an empty folder (EXACTLYONCE_LOCAL_DIR)"
    fi
    for name in "${settings_fixed[@]}"; do
        wanted=${asked[$name]:-${!name-}}
        wanted=${wanted:-${settings_default[$name]}}
        [[ -z $known || $wanted == "${!name}" ]] ||
            fail "the cluster in $dir was made with $name=${!name}, not $wanted: choose another folder, or delete it with '$0 down --wipe'"
        printf -v "$name" '%s' "$wanted"
    done
    for name in "${settings_free[@]}"; do
        wanted=${asked[$name]:-${!name-}}
        printf -v "$name" '%s' "${wanted:-${settings_default[$name]}}"
    done
    settings_check
}

settings_save() {
    local name
    for name in "${settings_fixed[@]}" "${settings_free[@]}"; do printf '%s=%s\n' "$name" "${!name}"; done >"$dir/$settings_file.new"
    mv "$dir/$settings_file.new" "$dir/$settings_file"
}

# Warns of ports that the system gives to outgoing connections: a node that comes back may find its own taken, even by a
# client that tries to reach it.
settings_warn() {
    local name first last range=/proc/sys/net/ipv4/ip_local_port_range
    read -r first last 2>/dev/null <"$range" || return 0
    for name in KAFKA_PORT CQL_PORT STORAGE_PORT JMX_PORT; do
        ((${!name} < first || ${!name} > last)) ||
            say "warning: EXACTLYONCE_LOCAL_$name is ${!name}, but from $first to $last ($range) any connection may take a port from a node that is down"
    done
}

settings_check() {
    local name node at
    one_of --kafka "$KAFKA_NODES" 0 1 3
    one_of --cassandra "$CASSANDRA_NODES" 0 1 3
    one_of SECURE "$SECURE" yes no
    ((KAFKA_NODES + CASSANDRA_NODES)) || usage_error "--kafka 0 and --cassandra 0 together are nothing"
    [[ $SECURE == no ]] || ((KAFKA_NODES < 3 && CASSANDRA_NODES < 3)) || usage_error "--secure is for one of each"
    local byte='(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])'
    [[ $ADDRESS_PREFIX =~ ^127\.$byte\.$byte$ ]] ||
        usage_error "EXACTLYONCE_LOCAL_ADDRESS_PREFIX is '$ADDRESS_PREFIX', but must be three numbers that begin with 127, as 127.0.0"
    [[ $CASSANDRA_VERSION =~ ^(4\.1|5\.0)\.(0|[1-9][0-9]?)$ ]] ||
        usage_error "EXACTLYONCE_LOCAL_CASSANDRA_VERSION is '$CASSANDRA_VERSION', but must be a release of 4.1 or 5.0, as 4.1.10 or 5.0.5"
    for name in KAFKA_HEAP CASSANDRA_HEAP; do
        [[ ${!name} =~ ^[1-9][0-9]*[mg]$ ]] || usage_error "EXACTLYONCE_LOCAL_$name is '${!name}', but must be as 512m or 1g"
    done
    for at in $KAFKA_SETTINGS; do
        [[ $at =~ ^[a-z][a-z0-9.]*=[^@]*$ ]] ||
            usage_error "EXACTLYONCE_LOCAL_KAFKA_SETTINGS has '$at', but must have settings as num.partitions=4, with spaces in between"
    done
    one_of EXACTLYONCE_LOCAL_JVM "$JVM" quick full
    one_of EXACTLYONCE_LOCAL_COMMITLOG_SYNC "$COMMITLOG_SYNC" batch periodic
    for name in KAFKA_PORT CQL_PORT STORAGE_PORT JMX_PORT; do
        [[ ${!name} =~ ^[1-9][0-9]{3,4}$ && ${!name} -ge 1024 && ${!name} -le 65500 ]] ||
            usage_error "EXACTLYONCE_LOCAL_$name is '${!name}', but must be a number from 1024 to 65500"
    done
    local -A used=()
    for node in $(nodes); do
        for at in $(node_places "$node"); do
            [[ -z ${used[$at]-} ]] || usage_error "$node and ${used[$at]} would both listen on $at: choose other ports (EXACTLYONCE_LOCAL_*_PORT)"
            used[$at]=$node
        done
    done
}
