# shellcheck shell=bash
# A node as a process: its folder, its ports, its signals. A process is a node's only if its command line says so,
# word for word: a pid alone may by now belong to anyone.

nodes() {
    local i
    for ((i = 1; i <= KAFKA_NODES; i++)); do echo "kafka-$i"; done
    for ((i = 1; i <= CASSANDRA_NODES; i++)); do echo "cassandra-$i"; done
}

# nodes_given NODE...: fails unless each is a node of this cluster.
nodes_given() {
    (($#)) || usage_error "which node?"
    local given
    for given in "$@"; do
        [[ " $(nodes | tr '\n' ' ')" == *" $given "* ]] || usage_error "the cluster in $dir has no node '$given', but: $(nodes | tr '\n' ' ')"
    done
}

node_ports() {
    local i=${1##*-}
    case $1 in
        kafka-*) echo $((KAFKA_PORT + 10 * (i - 1))) $((KAFKA_PORT + 10 * (i - 1) + 1)) ;;
        # Every node has an address of its own, but the first's ports stand for all.
        cassandra-1) echo "$CQL_PORT" "$STORAGE_PORT" "$JMX_PORT" ;;
        cassandra-*) echo $((JMX_PORT + i - 1)) ;;
    esac
}

node_host() {
    case $1 in
        kafka-*) echo 127.0.0.1 ;;
        cassandra-*) echo "$ADDRESS_PREFIX.${1##*-}" ;;
    esac
}

node_address() {
    case $1 in
        kafka-*) echo "127.0.0.1:$((KAFKA_PORT + 10 * (${1##*-} - 1)))" ;;
        cassandra-*) echo "$(node_host "$1"):$CQL_PORT" ;;
    esac
}

# ports_free NODE: fails if anyone listens where the node would.
ports_free() {
    local at places=() i=${1##*-} port
    case $1 in
        kafka-*) for port in $(node_ports "$1"); do places+=("127.0.0.1:$port"); done ;;
        cassandra-*) places=("$(node_host "$1"):$CQL_PORT" "$(node_host "$1"):$STORAGE_PORT" "127.0.0.1:$((JMX_PORT + i - 1))") ;;
    esac
    for at in "${places[@]}"; do
        if (exec 3<>"/dev/tcp/${at%:*}/${at#*:}") 2>/dev/null; then
            fail "$1 needs $at, but something listens there already$(port_user "$at"); choose another port (EXACTLYONCE_LOCAL_*_PORT)"
        fi
    done
}

port_user() {
    local user
    user=$(ss -ltnpH "sport = :${1#*:}" 2>/dev/null | sed -n 's/.*users:(("\([^"]*\)",pid=\([0-9]*\).*/\1, pid \2/p' | sort -u | head -n 1) || true
    [[ -z $user ]] || echo " ($user)"
}

# What the process' command line holds, and no other process' does.
node_mark() { echo "-Dexactlyonce.node=$dir/$1"; }

# The pid of the node's process, or nothing.
node_pid() {
    local pid
    pid=$(cat "$dir/$1/pid" 2>/dev/null) && [[ $pid =~ ^[0-9]+$ ]] || return 0
    # A process that has ended but is not yet collected has no command line.
    if tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF -e "$(node_mark "$1")"; then echo "$pid"; fi
}

# running, paused or down
node_state() {
    local pid stat
    pid=$(node_pid "$1")
    [[ -n $pid ]] && stat=$(cat "/proc/$pid/stat" 2>/dev/null) || { echo down; return; }
    stat=${stat##*) }
    if [[ ${stat:0:1} == T ]]; then echo paused; else echo running; fi
}

# node_signal NODE NAME: nothing happens if the node has no process.
node_signal() {
    local pid
    pid=$(node_pid "$1")
    [[ -z $pid ]] || kill -s "$2" "$pid" 2>/dev/null || [[ -z $(node_pid "$1") ]] || fail "$1 (pid $pid) cannot be sent SIG$2"
}

# node_gone NODE SECONDS: waits until it has no process; 1 if it still has.
node_gone() {
    local end=$((SECONDS + $2))
    while [[ -n $(node_pid "$1") ]]; do
        ((SECONDS < end)) || return 1
        sleep 0.1
    done
    rm -f "$dir/$1/pid"
}

node_paused() {
    local i
    for ((i = 0; i < 100; i++)); do
        [[ $(node_state "$1") == running ]] || return 0
        sleep 0.05
    done
    fail "$1 (pid $(node_pid "$1")) was sent SIGSTOP and goes on"
}

# node_spawn NODE JAVA-ARGUMENT...: in a session of its own, with nothing of ours open.
node_spawn() {
    local node=$1 folder=$dir/$1
    shift
    printf -- '---- %s is started, %s\n' "$node" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >>"$folder/node.log"
    # shellcheck disable=SC2016 # the inner shell expands these
    setsid bash -c '
        for fd in /proc/$$/fd/*; do fd=${fd##*/}; ((fd <= 2)) || eval "exec $fd>&-"; done
        cd "$1" && echo $$ >pid.new && mv pid.new pid
        exec "${@:2}"
    ' node_spawn "$folder" "$java" "$(node_mark "$node")" "$@" </dev/null >>"$folder/node.log" 2>&1 &
    # Until the shell has become the node, there is a moment without either.
    local i
    for ((i = 0; i < 200; i++)); do
        [[ -z $(node_pid "$node") ]] || return 0
        kill -0 $! 2>/dev/null || break
        sleep 0.05
    done
    [[ -n $(node_pid "$node") ]] || fail "$node does not start; the end of $folder/node.log:"$'\n'"$(tail -n 15 "$folder/node.log")"
}

node_answers() {
    case $1 in
        kafka-*) kafka_answers "${1##*-}" "${2:-1}" ;;
        cassandra-*) cassandra_answers "${1##*-}" ;;
    esac
}

# node_wait NODE [BROKERS]
node_wait() {
    local end=$((SECONDS + ${EXACTLYONCE_LOCAL_START_TIMEOUT:-180}))
    until node_answers "$@"; do
        [[ -n $(node_pid "$1") ]] || fail "$1 has ended; the end of $dir/$1/node.log:"$'\n'"$(tail -n 25 "$dir/$1/node.log")"
        ((SECONDS < end)) || fail "$1 (pid $(node_pid "$1")) does not answer on $(node_address "$1"); its log is $dir/$1/node.log"
        sleep 0.3
    done
}

# exchange HOST PORT REQUEST HEADER: sends the request (printf escapes) and prints the reply's first HEADER bytes,
# then as many as its last four say, as decimal numbers.
exchange() {
    # shellcheck disable=SC2016
    timeout 5 bash -c '
        exec 3<>"/dev/tcp/$1/$2" || exit
        printf "$3" >&3
        head=($(head -c "$4" <&3 | od -An -v -tu1))
        ((${#head[@]} == $4)) || exit
        length=$(((head[$4-4] << 24) + (head[$4-3] << 16) + (head[$4-2] << 8) + head[$4-1]))
        echo "${head[@]}" $(head -c "$length" <&3 | od -An -v -tu1)
    ' exchange "$@" 2>/dev/null || true
}
