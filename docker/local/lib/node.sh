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
    local given all
    all=$(nodes | tr '\n' ' ')
    (($#)) || usage_error "which node? There are: $all"
    for given in "$@"; do
        [[ " $all" == *" $given "* ]] || usage_error "the cluster in $dir has no node '$given', but: $all"
    done
}

# Where clients find the node.
node_address() {
    case $1 in
        kafka-*) echo "127.0.0.1:$((KAFKA_PORT + 10 * (${1##*-} - 1)))" ;;
        *) echo "$ADDRESS_PREFIX.${1##*-}:$CQL_PORT" ;;
    esac
}

# All that the node listens on.
node_places() {
    local i=${1##*-} port
    case $1 in
        kafka-*)
            port=$((KAFKA_PORT + 10 * (i - 1)))
            echo "127.0.0.1:$port" "127.0.0.1:$((port + 1))"
            [[ $SECURE == no ]] || echo "127.0.0.1:$((port + 2))" "127.0.0.1:$((port + 3))"
            ;;
        *) echo "$ADDRESS_PREFIX.$i:$CQL_PORT" "$ADDRESS_PREFIX.$i:$STORAGE_PORT" "127.0.0.1:$((JMX_PORT + i - 1))" ;;
    esac
}

# ports_free NODE: fails if anyone listens where the node would. What just ended may hold on for a moment.
ports_free() {
    local at tries rc
    for at in $(node_places "$1"); do
        for ((tries = 0; ; tries++)); do
            rc=0
            # shellcheck disable=SC2016 # the inner shell expands these
            timeout 2 bash -c 'exec 3<>"/dev/tcp/$1/$2"' connect "${at%:*}" "${at#*:}" 2>/dev/null || rc=$?
            # Exit code 1 means refused; a connection, or no response at all, means that the port is in use.
            ((rc != 1)) || break
            ((tries < 10)) || fail "$1 needs $at, but something listens there already$(port_user "$at"): end it, or choose another port (EXACTLYONCE_LOCAL_*_PORT)"
            sleep 0.2
        done
    done
}

# port_user ADDRESS:PORT: " (program, pid N)" of who listens there, if that can be found out.
port_user() {
    local any="*:${1#*:} 0.0.0.0:${1#*:} [::]:${1#*:} [::ffff:${1%:*}]:${1#*:}" local_address users
    while read -r _ _ _ local_address _ users; do
        [[ " $1 $any " == *" $local_address "* && $users =~ \(\(\"([^\"]*)\",pid=([0-9]+) ]] || continue
        echo " (${BASH_REMATCH[1]}, pid ${BASH_REMATCH[2]})"
        return
    done < <(ss -ltnpH 2>/dev/null)
}

# What the process' command line holds, and no other process' does.
node_mark() { echo "-Dexactlyonce.node=$dir/$1"; }

# The pid of the node's process, or nothing.
node_pid() {
    local pid
    [[ -r $dir/$1/pid ]] && read -r pid <"$dir/$1/pid" && [[ $pid =~ ^[1-9][0-9]*$ && -r /proc/$pid/cmdline ]] || return 0
    # A process that has ended but is not yet collected has no command line.
    if { tr '\0' '\n' <"/proc/$pid/cmdline" | grep -xF -e "$(node_mark "$1")" >/dev/null; } 2>/dev/null; then echo "$pid"; fi
}

# node_threads PID: a line for each thread, which begins with the letter of its state. Threads may end meanwhile.
node_threads() {
    { cat "/proc/$1/task/"*/stat 2>/dev/null || true; } | sed 's/^.*) //'
}

# running, paused (every thread is stopped) or down
node_state() {
    local pid
    pid=$(node_pid "$1")
    if [[ -z $pid ]]; then
        echo down
    elif node_threads "$pid" | grep '^[^TtZX]' >/dev/null; then
        echo running
    elif [[ -n $(node_pid "$1") ]]; then
        echo paused
    else
        echo down
    fi
}

# node_signal NODE NAME: nothing happens if the node has no process.
node_signal() {
    local pid
    pid=$(node_pid "$1")
    [[ -z $pid ]] || kill -s "$2" "$pid" 2>/dev/null || [[ -z $(node_pid "$1") ]] || fail "$1 (pid $pid) cannot be sent SIG$2"
}

# node_end NODE SIGNAL SECONDS: sends it and waits until the process is gone; 1 if it is still there.
# A process that dies loses its command line first and its files and ports last, so what is waited for is that no
# thread is left.
node_end() {
    local node=$1 signal=$2 end=$((SECONDS + $3)) pid born
    pid=$(node_pid "$node")
    [[ -n $pid ]] || return 0
    born=$(process_born "$pid")
    node_signal "$node" "$signal"
    # One that is paused would see no SIGTERM.
    [[ $signal != TERM ]] || node_signal "$node" CONT
    while [[ -n $born && $(process_born "$pid") == "$born" ]] && process_has_threads "$pid"; do
        ((SECONDS < end)) || return 1
        sleep 0.05
    done
}

# When the process was started, in ticks since boot, or nothing: with its pid, an identity.
process_born() {
    local stat
    { stat=$(<"/proc/$1/stat"); } 2>/dev/null || return 0
    stat=${stat##*) }
    read -ra stat <<<"$stat"
    echo "${stat[19]}"
}

# Whether it is more than a first thread that waits to be collected.
process_has_threads() {
    node_threads "$1" | grep "^[^ZX]" >/dev/null
}

# node_wait_paused NODE
node_wait_paused() {
    local end=$((SECONDS + 10))
    while [[ $(node_state "$1") == running ]]; do
        ((SECONDS < end)) || fail "$1 (pid $(node_pid "$1")) was sent SIGSTOP and goes on"
        sleep 0.02
    done
}

# node_start NODE: starts its process unless there is one. Commands side by side start it once.
node_start() {
    local node=$1 folder=$dir/$1
    mkdir -p "$folder"
    (
        flock -w 60 7 || fail "$folder/lock is held by another command for 60 s"
        [[ $(node_state "$node") == down ]] || exit 0
        ports_free "$node"
        rm -rf "$folder/tmp"
        mkdir "$folder/tmp"
        case $node in
            kafka-*) kafka_start "${node##*-}" ;;
            *) cassandra_start "${node##*-}" ;;
        esac
    ) 7>"$folder/lock"
}

# node_spawn NODE JAVA-ARGUMENT...: in a session of its own, with nothing of ours open.
node_spawn() {
    local node=$1 folder=$dir/$1 end=$((SECONDS + 20))
    shift
    printf -- '---- %s is started, %s\n' "$node" "$(date -u +%Y-%m-%dT%H:%M:%SZ)" >>"$folder/node.log"
    # shellcheck disable=SC2016 # the inner shell expands these
    setsid bash -c '
        for fd in /proc/$$/fd/*; do fd=${fd##*/}; ((fd <= 2)) || eval "exec $fd>&-"; done
        cd "$1" && echo $$ >pid.new && mv pid.new pid || exit
        exec "${@:2}"
    ' spawn "$folder" "$java" "$(node_mark "$node")" "$@" </dev/null >>"$folder/node.log" 2>&1 &
    while [[ -z $(node_pid "$node") ]] && kill -0 $! 2>/dev/null && ((SECONDS < end)); do sleep 0.05; done
}

# node_wait NODE [BROKERS]: until it answers.
node_wait() {
    local node=$1 end=$((SECONDS + start_timeout))
    until node_answers "$@"; do
        [[ -n $(node_pid "$node") ]] || fail "$node has ended; the end of $dir/$node/node.log:"$'\n'"$(tail -n 25 "$dir/$node/node.log")"
        [[ $(node_state "$node") != paused ]] || fail "$node was paused before it answered"
        ((SECONDS < end)) || fail "$node (pid $(node_pid "$node")) has not answered on $(node_address "$node") in $start_timeout s; its log is $dir/$node/node.log"
        sleep 0.3
    done
}

node_answers() {
    case $1 in
        kafka-*) kafka_answers "${1##*-}" "${2:-1}" ;;
        *) cassandra_answers "${1##*-}" ;;
    esac
}
