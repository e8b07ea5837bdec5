# shellcheck shell=bash
# Requests over a socket, byte by byte: enough to ask a node whether it answers, without starting a Java for it.

# exchange plain|tls HOST:PORT HEADER REQUEST...: sends each request (hexadecimal) and prints each reply on a line,
# as decimal bytes: HEADER bytes, and as many more as the last four of these say. Prints nothing for what is not
# answered in 5 seconds.
exchange() {
    # shellcheck disable=SC2016 # the inner shell expands these
    timeout 5 bash -c '
        header=$3
        if [[ $1 == plain ]]; then
            exec 3<>"/dev/tcp/${2%:*}/${2#*:}" 4>&3 || exit
        else
            coproc openssl s_client -connect "$2" -quiet -no_ign_eof
            exec 3<&"${COPROC[0]}" 4>&"${COPROC[1]}"
        fi
        for request in "${@:4}"; do
            printf "$(sed "s/../\\\\x&/g" <<<"$request")" >&4
            head=($(head -c "$header" <&3 | od -An -v -tu1))
            ((${#head[@]} == header)) || exit
            length=$(((head[header - 4] << 24) + (head[header - 3] << 16) + (head[header - 2] << 8) + head[header - 1]))
            echo "${head[@]}" $(head -c "$length" <&3 | od -An -v -tu1)
        done
    ' exchange "$@" 2>/dev/null || true
}

# hex TEXT
hex() { printf '%s' "$1" | od -An -v -tx1 | tr -d ' \n'; }

# cql_frame OPCODE BODY: a request of protocol version 4, in hexadecimal.
cql_frame() { printf '04000000%s%08x%s' "$1" $((${#2} / 2)) "$2"; }

# cql_login USER PASSWORD: the two requests that open a session, in hexadecimal.
cql_login() {
    local token
    token=00$(hex "$1")00$(hex "$2")
    cql_frame 01 "0001$(printf '%04x' 11)$(hex CQL_VERSION)$(printf '%04x' 5)$(hex 3.0.0)"
    echo
    cql_frame 0f "$(printf '%08x' $((${#token} / 2)))$token"
    echo
}

# cql_query STATEMENT: at consistency ONE, without values.
cql_query() { cql_frame 07 "$(printf '%08x' "${#1}")$(hex "$1")000100"; }
