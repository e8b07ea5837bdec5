# shellcheck shell=bash
# The Java to run with, and the jars.

java=""

# Sets `java`, or says what is wrong with the one there is. Kafka 4.1 wants 17 or newer, Cassandra 5.0 11 or 17.
java_find() {
    local version
    if [[ -n ${JAVA_HOME-} ]]; then
        java=$JAVA_HOME/bin/java
        [[ -x $java ]] || fail "JAVA_HOME is $JAVA_HOME, but there is no $java"
    else
        java=$(command -v java) || fail "no java on the path: install a JDK 17, or set JAVA_HOME"
    fi
    version=$("$java" -version 2>&1) || fail "$java -version fails: $version"
    [[ $version =~ version\ \"([0-9]+) ]] || fail "$java -version says no version: $version"
    version=${BASH_REMATCH[1]}
    if ((CASSANDRA_NODES)); then
        ((version == 17)) || fail "$java is Java $version, but Cassandra 5.0 and Kafka 4.1 have only Java 17 in common: set JAVA_HOME to one"
    else
        ((version >= 17)) || fail "$java is Java $version, but Kafka 4.1 needs 17 or newer: set JAVA_HOME to one"
    fi
}

# Sets `kafka_jars` and `cassandra_jars`, fetching what is not there. A folder is named by its pom's checksum and
# appears complete or not at all.
java_jars() {
    ((!KAFKA_NODES)) || java_jars_of kafka
    ((!CASSANDRA_NODES)) || java_jars_of cassandra
}

java_jars_of() {
    local name=$1 sum target
    sum=$(sha256sum <"$here/$name/pom.xml")
    target=$jars/$name-${sum:0:12}
    if [[ ! -d $target ]]; then
        mkdir -p "$jars" 2>/dev/null || fail "the folder $jars cannot be made: check EXACTLYONCE_LOCAL_JARS and its permissions"
        [[ -w $jars ]] || fail "the folder $jars cannot be written to: check EXACTLYONCE_LOCAL_JARS and its permissions"
        command -v mvn >/dev/null || fail "no mvn on the path: install Maven 3.6 or newer, it fetches the jars of $name"
        (
            flock -w 900 8 || fail "$jars/lock is held by another command for 900 s"
            [[ ! -d $target ]] || exit 0
            say "fetching the jars of $name into $target"
            rm -rf "$target.part"
            mvn -q -B -f "$here/$name/pom.xml" dependency:copy-dependencies -DincludeScope=runtime -DoutputDirectory="$target.part" >"$jars/$name.log" 2>&1 ||
                fail "mvn could not fetch the jars of $name; the end of $jars/$name.log:"$'\n'"$(tail -n 15 "$jars/$name.log")"
            mv "$target.part" "$target"
        ) 8>"$jars/lock"
    fi
    printf -v "${name}_jars" '%s' "$target"
}

# Flags that `JVM` stands for.
java_flags() {
    if [[ $JVM == quick ]]; then
        printf '%s\n' -XX:+UseSerialGC -XX:TieredStopAtLevel=1
    fi
}
