# shellcheck shell=bash
# Nodes of Cassandra.

# What Cassandra's own options for Java 17 export and open.
cassandra_modules() {
    local package
    for package in java.base/{jdk.internal.misc,jdk.internal.ref,sun.nio.ch,java.lang.ref,java.lang.reflect} \
        java.management.rmi/com.sun.jmx.remote.internal.rmi java.rmi/{sun.rmi.registry,sun.rmi.server} java.sql/java.sql jdk.unsupported/sun.misc; do
        printf '%s\n' --add-exports "$package=ALL-UNNAMED"
    done
    for package in java.base/{java.lang.module,jdk.internal.loader,jdk.internal.ref,jdk.internal.reflect,jdk.internal.math,jdk.internal.module} \
        java.base/{jdk.internal.util.jar,sun.nio.ch,java.io,java.lang,java.lang.reflect,java.util,java.nio,java.util.concurrent,java.util.concurrent.atomic} \
        jdk.management/com.sun.management.internal; do
        printf '%s\n' --add-opens "$package=ALL-UNNAMED"
    done
    printf '%s\n' -Djdk.attach.allowAttachSelf=true
}

# cassandra_tokens I: four of evenly spaced ones, in turn with the other nodes'.
cassandra_tokens() {
    local k tokens="" slots=$((4 * CASSANDRA_NODES)) slot
    for ((k = 0; k < 4; k++)); do
        slot=$((k * CASSANDRA_NODES + $1 - 1))
        # The range is 2^64 from -2^63, twice what fits a number here; slot by slot, it overflows nowhere.
        # shellcheck disable=SC2017
        tokens+=,$((-9223372036854775807 + 9223372036854775807 / slots * slot * 2))
    done
    echo "${tokens#,}"
}

cassandra_configure() {
    local i=$1 folder=$dir/cassandra-$1 j seeds="" sync="commitlog_sync: batch" authenticator=AllowAllAuthenticator authorizer=AllowAllAuthorizer encryption=""
    mkdir -p "$folder/conf" "$folder/data"
    for ((j = 1; j <= CASSANDRA_NODES; j++)); do seeds+=,$ADDRESS_PREFIX.$j:$STORAGE_PORT; done
    [[ $COMMITLOG_SYNC == batch ]] || sync=$'commitlog_sync: periodic\ncommitlog_sync_period: 10000ms'
    if [[ $SECURE == yes ]]; then
        authenticator=PasswordAuthenticator
        authorizer=CassandraAuthorizer
        encryption=$(security_cassandra)
    fi
    # An eighth of the heap, at least 1 MiB; the default is a quarter.
    local memtable_mib=${CASSANDRA_HEAP%[mg]}
    [[ $CASSANDRA_HEAP == *m ]] || memtable_mib=$((memtable_mib * 1024))
    memtable_mib=$((memtable_mib / 8 + (memtable_mib < 8)))
    cp "$here/cassandra/logback.xml" "$folder/conf/"
    printf 'dc=dc1\nrack=r%s\n' "$i" >"$folder/conf/cassandra-rackdc.properties"
    fill "$here/cassandra/cassandra.yaml" "$folder/conf/cassandra.yaml" \
        "address=$ADDRESS_PREFIX.$i" "storage_port=$STORAGE_PORT" "cql_port=$CQL_PORT" "seeds=${seeds#,}" "tokens=$(cassandra_tokens "$i")" \
        "data=$folder/data" "commitlog_sync=$sync" "memtable_mib=$memtable_mib" "authenticator=$authenticator" "authorizer=$authorizer" "client_encryption=$encryption"
}

cassandra_start() {
    local folder=$dir/cassandra-$1 arguments agent
    cassandra_configure "$1"
    agent=$(echo "$cassandra_jars"/jamm-*.jar)
    mapfile -t arguments < <(java_flags "cassandra-$1"; cassandra_modules)
    node_spawn "cassandra-$1" "${arguments[@]}" "-javaagent:$agent" -Xms128m "-Xmx$CASSANDRA_HEAP" -Xss512k \
        "-Dcassandra.config=file://$folder/conf/cassandra.yaml" "-Dcassandra.storagedir=$folder/data" -Dcassandra-foreground=yes \
        "-Dcassandra.jmx.local.port=$((JMX_PORT + $1 - 1))" -Dcassandra.ring_delay_ms=2000 -Dcassandra.skip_wait_for_gossip_to_settle=0 \
        -Dcassandra.superuser_setup_delay_ms=0 -Dcassandra.shutdown_announce_in_ms=200 -cp "$folder/conf:$cassandra_jars/*" org.apache.cassandra.service.CassandraDaemon
}

# cassandra_exchange I REQUEST...
cassandra_exchange() {
    local how=plain
    [[ $SECURE == no ]] || how=tls
    exchange "$how" "$ADDRESS_PREFIX.$1:$CQL_PORT" 9 "${@:2}"
}

# cassandra_answers I: SUPPORTED to an OPTIONS request.
cassandra_answers() {
    local reply
    read -ra reply < <(cassandra_exchange "$1" "$(cql_frame 05 "")") || true
    ((${#reply[@]} > 9 && reply[4] == 6))
}

# cassandra_nodetool I ARGUMENT...: ended after $nodetool_limit seconds; 0 is no limit.
nodetool_limit=0
cassandra_nodetool() {
    local i=$1 arguments
    shift
    mkdir -p "$dir/tools"
    mapfile -t arguments < <(cassandra_modules)
    # Its history goes to the home folder: here, the cluster's own.
    timeout "$nodetool_limit" "$java" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xmx128m "${arguments[@]}" "-Duser.home=$dir/tools" -Dexactlyonce.level=WARN \
        -cp "$dir/cassandra-$i/conf:$cassandra_jars/*" org.apache.cassandra.tools.NodeTool -h 127.0.0.1 -p $((JMX_PORT + i - 1)) "$@"
}

# cassandra_wait_seen I OTHER...: waits until node I sees each of the others up and normal.
cassandra_wait_seen() {
    local i=$1 end=$((SECONDS + start_timeout)) seen j missing
    shift
    while true; do
        # A node that hangs must not keep this from its own limit.
        seen=$(nodetool_limit=30 cassandra_nodetool "$i" status 2>/dev/null) || true
        missing=""
        for j in "$@"; do
            # One that ended or was paused meanwhile is not waited for.
            grep -qE "^UN +$ADDRESS_PREFIX\.$j " <<<"$seen" || [[ $(node_state "cassandra-$j") != running ]] || missing+=" cassandra-$j"
        done
        [[ -n $missing && $(node_state "cassandra-$i") == running ]] || return 0
        ((SECONDS < end)) || fail "cassandra-$i does not see$missing up after $start_timeout s; their logs are $dir/cassandra-*/node.log"
        sleep 0.5
    done
}

# cassandra_settle I...: waits until these nodes and those that ran already see one another.
cassandra_settle() {
    local i running=() jobs=() rc=0 old=""
    for ((i = 1; i <= CASSANDRA_NODES; i++)); do
        [[ $(node_state "cassandra-$i") != running ]] || running+=("$i")
    done
    ((${#running[@]} > 1)) || return 0
    # One of the others stands for all of them: what one knows, the next knows a second later.
    for i in "${running[@]}"; do [[ " $* " == *" $i "* ]] || old=$i; done
    for i in "$@" $old; do
        cassandra_wait_seen "$i" "${running[@]}" &
        jobs+=($!)
    done
    for i in "${jobs[@]}"; do wait "$i" || rc=1; done
    ((rc == 0)) || exit "$rc"
}
