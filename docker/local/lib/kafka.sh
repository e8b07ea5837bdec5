# shellcheck shell=bash
# Brokers of Kafka, each a controller as well.

kafka_arguments() {
    java_flags "kafka-$1"
    printf '%s\n' -Xms64m "-Xmx$KAFKA_HEAP" "-Dlog4j2.configurationFile=$dir/kafka-$1/log4j2.properties" -cp "$kafka_jars/*"
}

kafka_start() {
    local folder=$dir/kafka-$1 arguments
    mapfile -t arguments < <(kafka_arguments "$1")
    cp "$here/kafka/log4j2.properties" "$folder/"
    if [[ ! -d $folder/data ]]; then kafka_format "$1"; fi
    kafka_configure "$1" data
    node_spawn "kafka-$1" "${arguments[@]}" kafka.Kafka "$folder/server.properties"
}

# kafka_configure I DATA: writes server.properties for the data in that folder of the node.
kafka_configure() {
    local i=$1 folder=$dir/kafka-$1 port j voters="" replicas=1 min_isr=1 listeners="" security=""
    port=$((KAFKA_PORT + 10 * (i - 1)))
    for ((j = 1; j <= KAFKA_NODES; j++)); do voters+=,$j@127.0.0.1:$((KAFKA_PORT + 10 * (j - 1) + 1)); done
    if ((KAFKA_NODES == 3)); then replicas=3 min_isr=2; fi
    if [[ $SECURE == yes ]]; then
        listeners=",SASL_SSL://127.0.0.1:$((port + 2)),SSL://127.0.0.1:$((port + 3))"
        security=$(security_kafka)
    fi
    fill "$here/kafka/server.properties" "$folder/server.properties" \
        "id=$i" "voters=${voters#,}" "port=$port" "controller_port=$((port + 1))" "more_listeners=$listeners" \
        "data=$folder/$2" "replicas=$replicas" "min_isr=$min_isr" "security=$security" "settings=${KAFKA_SETTINGS// /$'\n'}"
}

# The log folder is made beside its place, so that one half made is never taken for whole.
kafka_format() {
    local folder=$dir/kafka-$1 arguments users=()
    kafka_configure "$1" data.part
    rm -rf "$folder/data.part"
    [[ $SECURE == no ]] || mapfile -t users < <(security_kafka_users)
    mapfile -t arguments < <(kafka_arguments "$1")
    "$java" "${arguments[@]}" kafka.tools.StorageTool format -t "$(kafka_cluster_id)" -c "$folder/server.properties" ${users[@]+"${users[@]}"} >>"$folder/node.log" 2>&1 ||
        fail "kafka-$1: its log folder could not be formatted; the end of $folder/node.log:"$'\n'"$(tail -n 15 "$folder/node.log")"
    mv "$folder/data.part" "$folder/data"
}

# The same for all brokers of a cluster: 16 bytes, in base64 for URLs.
kafka_cluster_id() {
    local sum
    sum=$(sha256sum <<<"$dir $KAFKA_PORT")
    printf '%s' "${sum:0:16}" | base64 | tr '+/' '-_' | tr -d '='
}

# kafka_answers I BROKERS: the broker's metadata (version 1, no topics) list as many brokers, itself among them.
kafka_answers() {
    local reply count at=12 own="" n
    read -ra reply < <(exchange plain "127.0.0.1:$((KAFKA_PORT + 10 * ($1 - 1)))" 4 0000000e0003000100000001ffff00000000) || true
    ((${#reply[@]} > 12)) || return 1
    count=${reply[11]}
    for ((n = 0; n < count; n++)); do
        ((reply[at + 3] != $1)) || own=yes
        # Behind the id: the host with its length, the port, and the rack with its length.
        ((at += 4 + 2 + reply[at + 5] + 4))
        ((at += 2 + reply[at + 1]))
    done
    [[ -n $own ]] && ((count >= $2))
}
