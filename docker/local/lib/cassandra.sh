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

# cassandra_tokens I: four of evenly spaced ones, in turn with the other nodes.
cassandra_tokens() {
    local k tokens="" slots=$((4 * CASSANDRA_NODES)) slot
    for ((k = 0; k < 4; k++)); do
        slot=$((k * CASSANDRA_NODES + $1 - 1))
        # The range is 2^64 from -2^63, too wide for signed arithmetic in one step.
        tokens+=,$((-9223372036854775807 + 9223372036854775807 / slots * slot * 2))
    done
    echo "${tokens#,}"
}

cassandra_prepare() {
    local i=$1 folder=$dir/cassandra-$1 j seeds="" sync="commitlog_sync: batch"
    mkdir -p "$folder/conf" "$folder/data"
    for ((j = 1; j <= CASSANDRA_NODES; j++)); do seeds+=,$ADDRESS_PREFIX.$j:$STORAGE_PORT; done
    [[ $COMMITLOG_SYNC == batch ]] || sync=$'commitlog_sync: periodic\ncommitlog_sync_period: 10000ms'
    cp "$here/cassandra/logback.xml" "$folder/conf/"
    printf 'dc=dc1\nrack=r%s\n' "$i" >"$folder/conf/cassandra-rackdc.properties"
    fill "$here/cassandra/cassandra.yaml" "$folder/conf/cassandra.yaml" \
        "address=$ADDRESS_PREFIX.$i" "storage_port=$STORAGE_PORT" "cql_port=$CQL_PORT" "seeds=${seeds#,}" "tokens=$(cassandra_tokens "$i")" \
        "data=$folder/data" "commitlog_sync=$sync" "authenticator=AllowAllAuthenticator" "authorizer=AllowAllAuthorizer" "client_encryption="
}

cassandra_spawn() {
    local folder=$dir/cassandra-$1 arguments agent
    cassandra_prepare "$1"
    agent=$(echo "$cassandra_jars"/jamm-*.jar)
    mapfile -t arguments < <(java_flags; cassandra_modules)
    node_spawn "cassandra-$1" "${arguments[@]}" "-javaagent:$agent" -Xms128m "-Xmx$CASSANDRA_HEAP" -Xss512k -XX:+UseThreadPriorities \
        "-Dcassandra.config=file://$folder/conf/cassandra.yaml" "-Dcassandra.storagedir=$folder/data" -Dcassandra-foreground=yes \
        "-Dcassandra.jmx.local.port=$((JMX_PORT + $1 - 1))" -Dcassandra.ring_delay_ms=2000 -Dcassandra.skip_wait_for_gossip_to_settle=0 \
        -Dcassandra.superuser_setup_delay_ms=0 "-Djava.io.tmpdir=$folder/data" -Djava.awt.headless=true \
        -cp "$folder/conf:$cassandra_jars/*" org.apache.cassandra.service.CassandraDaemon
}

# cassandra_answers I: SUPPORTED to an OPTIONS frame of protocol version 4.
cassandra_answers() {
    local reply
    read -ra reply < <(exchange "$ADDRESS_PREFIX.$1" "$CQL_PORT" '\004\0\0\0\005\0\0\0\0' 9) || true
    ((${#reply[@]} > 9 && reply[4] == 6))
}

cassandra_nodetool() {
    local i=$1 arguments
    shift
    mkdir -p "$dir/tools"
    mapfile -t arguments < <(cassandra_modules)
    # Its history goes to the home folder: here, the cluster's own.
    "$java" -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -Xshare:auto -Xmx128m "${arguments[@]}" "-Duser.home=$dir/tools" -Dexactlyonce.level=WARN \
        -cp "$dir/cassandra-$i/conf:$cassandra_jars/*" org.apache.cassandra.tools.NodeTool -h 127.0.0.1 -p $((JMX_PORT + i - 1)) "$@"
}

# cassandra_wait_seen I NODES: waits until node I sees as many nodes up and normal.
cassandra_wait_seen() {
    local end=$((SECONDS + ${EXACTLYONCE_LOCAL_START_TIMEOUT:-180})) seen
    (($2 > 1)) || return 0
    while true; do
        seen=$(cassandra_nodetool "$1" status 2>/dev/null | grep -c '^UN ') || true
        ((seen < $2)) || return 0
        ((SECONDS < end)) || fail "cassandra-$1 sees $seen of $2 nodes up; its log is $dir/cassandra-$1/node.log"
        sleep 0.5
    done
}

# cassandra_wait_seen_by_another I: waits until another node that runs sees node I up and normal.
cassandra_wait_seen_by_another() {
    local end=$((SECONDS + ${EXACTLYONCE_LOCAL_START_TIMEOUT:-180})) j
    for ((j = 1; j <= CASSANDRA_NODES; j++)); do
        ((j != $1)) && [[ $(node_state "cassandra-$j") == running ]] && cassandra_answers "$j" || continue
        until cassandra_nodetool "$j" status 2>/dev/null | grep -q "^UN  *$ADDRESS_PREFIX\.$1 "; do
            ((SECONDS < end)) || fail "cassandra-$j does not see cassandra-$1 up; their logs are $dir/cassandra-*/node.log"
            [[ $(node_state "cassandra-$j") == running ]] || break
            sleep 0.5
        done
        return
    done
}
