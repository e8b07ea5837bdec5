# shellcheck shell=bash
# Brokers of Kafka, each a controller as well.

kafka_java() {
    printf '%s\n' "-Xms64m" "-Xmx$KAFKA_HEAP" -Djava.awt.headless=true "-Dlog4j2.configurationFile=$dir/kafka-$1/log4j2.properties" -cp "$kafka_jars/*"
}

# kafka_prepare I: configuration, and an empty log if there is none.
kafka_prepare() {
    local i=$1 folder=$dir/kafka-$1 port j voters="" replicas=1 min_isr=1 arguments
    mkdir -p "$folder"
    port=$((KAFKA_PORT + 10 * (i - 1)))
    for ((j = 1; j <= KAFKA_NODES; j++)); do voters+=,$j@127.0.0.1:$((KAFKA_PORT + 10 * (j - 1) + 1)); done
    if ((KAFKA_NODES == 3)); then replicas=3 min_isr=2; fi
    cp "$here/kafka/log4j2.properties" "$folder/"
    fill "$here/kafka/server.properties" "$folder/server.properties" \
        "id=$i" "voters=${voters#,}" "address=127.0.0.1" "port=$port" "controller_port=$((port + 1))" "more_listeners=" \
        "data=$folder/data" "replicas=$replicas" "min_isr=$min_isr"
    [[ -e $folder/data/meta.properties ]] && return
    # The same id for all brokers of a cluster: 16 bytes, in base64 for URLs.
    mapfile -t arguments < <(java_flags; kafka_java "$i")
    "$java" "${arguments[@]}" kafka.tools.StorageTool format -t "$(kafka_cluster_id)" -c "$folder/server.properties" >>"$folder/node.log" 2>&1 ||
        fail "kafka-$i: the log folder could not be formatted; the end of $folder/node.log:"$'\n'"$(tail -n 15 "$folder/node.log")"
}

kafka_cluster_id() { printf 'exactlyonce-%-4.4s' "$KAFKA_NODES" | tr ' ' 0 | base64 | tr '+/' '-_' | tr -d '='; }

kafka_spawn() {
    local arguments
    mapfile -t arguments < <(java_flags; kafka_java "$1")
    node_spawn "kafka-$1" "${arguments[@]}" kafka.Kafka "$dir/kafka-$1/server.properties"
}

# kafka_answers I BROKERS: the broker's metadata (version 1, no topics) list as many brokers, itself among them.
kafka_answers() {
    local reply count at=12 host own="" n
    read -ra reply < <(exchange 127.0.0.1 $((KAFKA_PORT + 10 * ($1 - 1))) '\0\0\0\016\0\003\0\001\0\0\0\001\377\377\0\0\0\0' 4) || true
    ((${#reply[@]} > 12)) || return 1
    count=${reply[11]}
    for ((n = 0; n < count; n++)); do
        ((reply[at + 3] != $1)) || own=yes
        host=${reply[at + 5]}
        ((at += 4 + 2 + host + 4 + 2))
    done
    [[ $own ]] && ((count >= $2))
}
