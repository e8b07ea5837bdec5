# shellcheck shell=bash
# What `up --secure` adds: certificates, users and their passwords, made for each cluster, in DIR/security.
# The users: one for PLAIN, one for SCRAM, one for Cassandra, and in both services one who may log in and do nothing.

security_users=(kafka-plain kafka-scram kafka-unauthorized cassandra cassandra-unauthorized)

# The password of a user. Files end without a line feed, so that they may be used as they are.
security_password() { cat "$dir/security/$1.password"; }

# Makes what is not there.
security_prepare() {
    local folder=$dir/security user
    [[ $SECURE == yes && ! -d $folder ]] || return 0
    need openssl openssl
    rm -rf "$folder.part"
    (umask 077 && mkdir "$folder.part")
    (
        cd "$folder.part"
        umask 077
        for user in "${security_users[@]}"; do openssl rand -hex 16 | tr -d '\n' >"$user.password"; done
        security_authority ca
        security_authority wrong-ca
        openssl req -newkey rsa:2048 -nodes -keyout server.key -subj /CN=localhost -out server.csr
        printf 'subjectAltName=DNS:localhost,IP:127.0.0.1,IP:%s.1\nextendedKeyUsage=serverAuth\n' "$ADDRESS_PREFIX" >server.extensions
        openssl x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 3650 -extfile server.extensions -out server.crt
        cat server.key server.crt ca.pem >server.pem
        rm -f server.csr server.extensions server.crt server.key
    ) >"$folder.part/openssl.log" 2>&1 ||
        fail "openssl could not make the certificates; the end of $folder.part/openssl.log:"$'\n'"$(tail -n 15 "$folder.part/openssl.log")"
    mv "$folder.part" "$folder"
}

# security_authority NAME: a key and a self-signed certificate that may sign others.
security_authority() {
    openssl req -x509 -newkey rsa:2048 -nodes -keyout "$1.key" -out "$1.pem" -days 3650 -subj "/CN=exactlyonce $1" \
        -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign
}

# The lines of server.properties.
security_kafka() {
    cat <<EOF

sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_kafka-plain="$(security_password kafka-plain)" user_kafka-unauthorized="$(security_password kafka-unauthorized)";
listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
ssl.keystore.type=PEM
ssl.keystore.location=$dir/security/server.pem
ssl.client.auth=none
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:kafka-plain;User:kafka-scram
EOF
}

# The arguments of `format` that make the users of SCRAM.
security_kafka_users() {
    local mechanism
    for mechanism in SCRAM-SHA-256 SCRAM-SHA-512; do
        printf '%s\n' --add-scram "$mechanism=[name=kafka-scram,password=$(security_password kafka-scram)]"
    done
}

# The lines of cassandra.yaml.
security_cassandra() {
    cat <<EOF
client_encryption_options:
  enabled: true
  optional: false
  require_client_auth: false
  ssl_context_factory:
    class_name: org.apache.cassandra.security.PEMBasedSslContextFactory
  keystore: $dir/security/server.pem
EOF
}

# Makes the users of Cassandra, and takes the well-known password from the one it comes with. That one appears
# some time after the node answers.
security_cassandra_users() {
    local made=$dir/cassandra-1/users-made end=$((SECONDS + start_timeout)) first again statement requests=() statements
    [[ $SECURE == yes && $CASSANDRA_NODES != 0 && ! -e $made ]] || return 0
    statements=(
        "CREATE ROLE IF NOT EXISTS exactlyonce WITH PASSWORD = '$(security_password cassandra)' AND LOGIN = true AND SUPERUSER = true"
        "CREATE ROLE IF NOT EXISTS unauthorized WITH PASSWORD = '$(security_password cassandra-unauthorized)' AND LOGIN = true"
        "ALTER ROLE cassandra WITH PASSWORD = '$(openssl rand -hex 16)'"
    )
    for statement in "${statements[@]}"; do requests+=("$(cql_query "$statement")"); done
    mapfile -t first < <(cql_login cassandra cassandra)
    mapfile -t again < <(cql_login exactlyonce "$(security_password cassandra)")
    # AUTHENTICATE, AUTH_SUCCESS, and a RESULT for each statement; or all was done before, but not noted.
    until [[ $(security_answers "${first[@]}" "${requests[@]}") == "3 16 8 8 8 " || $(security_answers "${again[@]}" "${requests[2]}") == "3 16 8 " ]]; do
        ((SECONDS < end)) || fail "cassandra-1 did not make the users in $start_timeout s; its log is $dir/cassandra-1/node.log"
        sleep 0.5
    done
    touch "$made"
}

# The kinds of the node's answers, as numbers.
security_answers() {
    local reply
    cassandra_exchange 1 "$@" | while read -ra reply; do printf '%s ' "${reply[4]-}"; done
}

# The lines of `env`.
security_env() {
    local folder=$dir/security
    printf '%s\n' "CA_PEM=$folder/ca.pem" "WRONG_CA_PEM=$folder/wrong-ca.pem"
    if ((KAFKA_NODES)); then
        printf '%s\n' "KAFKA_SASL_SSL=127.0.0.1:$((KAFKA_PORT + 2))" "KAFKA_SSL=127.0.0.1:$((KAFKA_PORT + 3))" \
            "KAFKA_PLAIN_USER=kafka-plain" "KAFKA_PLAIN_PASSWORD_FILE=$folder/kafka-plain.password" \
            "KAFKA_SCRAM_USER=kafka-scram" "KAFKA_SCRAM_PASSWORD_FILE=$folder/kafka-scram.password" \
            "KAFKA_UNAUTHORIZED_USER=kafka-unauthorized" "KAFKA_UNAUTHORIZED_PASSWORD_FILE=$folder/kafka-unauthorized.password"
    fi
    if ((CASSANDRA_NODES)); then
        printf '%s\n' "CASSANDRA_USER=exactlyonce" "CASSANDRA_PASSWORD_FILE=$folder/cassandra.password" \
            "CASSANDRA_UNAUTHORIZED_USER=unauthorized" "CASSANDRA_UNAUTHORIZED_PASSWORD_FILE=$folder/cassandra-unauthorized.password"
    fi
}
