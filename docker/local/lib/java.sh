# shellcheck shell=bash
# The Java to run with, and the jars.

java=""

# Sets `java`, or says what is wrong with the one there is. Kafka 4.1 requires 17 or newer, Cassandra 5.0 11 or 17;
# Cassandra 4.1 names 8 and 11, but runs on 17 as well.
java_find() {
    local said
    if [[ -n ${JAVA_HOME-} ]]; then
        java=$JAVA_HOME/bin/java
        [[ -x $java ]] || fail "JAVA_HOME is $JAVA_HOME, but there is no $java: set it to the folder of a JDK 17"
    else
        java=$(command -v java) || fail "no java on the path: install a JDK 17, or set JAVA_HOME to the folder of one"
    fi
    said=$("$java" -version 2>&1) || fail "'$java -version' fails: $said"
    [[ $said =~ version\ \"([0-9]+) ]] || fail "'$java -version' prints no version, but: $said"
    if ((CASSANDRA_NODES)); then
        ((BASH_REMATCH[1] == 17)) || fail "$java is Java ${BASH_REMATCH[1]}, but Cassandra and Kafka 4.1 have only Java 17 in common: set JAVA_HOME to the folder of a JDK 17"
    else
        ((BASH_REMATCH[1] >= 17)) || fail "$java is Java ${BASH_REMATCH[1]}, but Kafka 4.1 needs 17 or newer: set JAVA_HOME to the folder of one"
    fi
}

# Sets `kafka_jars` and `cassandra_jars`, fetching what is not there.
java_jars() {
    ((!KAFKA_NODES)) || java_jars_of kafka
    ((!CASSANDRA_NODES)) || java_jars_of cassandra
}

# A folder is named by its pom's checksum and, where that is a setting, the version. It appears complete or not at all.
java_jars_of() {
    local name=$1 sum target what=$1 version=()
    sum=$(sha256sum <"$here/$name/pom.xml")
    target=$jars/$name-${sum:0:12}
    if [[ $name == cassandra ]]; then
        target=$jars/$name-$CASSANDRA_VERSION-${sum:0:12}
        what="cassandra $CASSANDRA_VERSION"
        version=("-Dcassandra.version=$CASSANDRA_VERSION")
    fi
    if [[ ! -d $target ]]; then
        make_folder "$jars" EXACTLYONCE_LOCAL_JARS
        need "Maven 3.6 or newer, which fetches the jars of $name" mvn
        (
            flock -w 900 8 || fail "$jars/lock is held by another command for 900 s"
            [[ ! -d $target ]] || exit 0
            say "fetching the jars of $what into $target"
            rm -rf "$target.part"
            mvn -q -B -f "$here/$name/pom.xml" ${version[@]+"${version[@]}"} dependency:copy-dependencies -DincludeScope=runtime \
                -DoutputDirectory="$target.part" >"$jars/$name.log" 2>&1 ||
                fail "mvn could not fetch the jars of $what; the end of $jars/$name.log:"$'\n'"$(tail -n 15 "$jars/$name.log")"
            mv "$target.part" "$target"
        ) 8>"$jars/lock"
    fi
    printf -v "${name}_jars" '%s' "$target"
}

# The flags of every node.
java_flags() {
    printf '%s\n' -XX:+ExitOnOutOfMemoryError -Djava.awt.headless=true "-Djava.io.tmpdir=$dir/$1/tmp"
    [[ $JVM == full ]] || printf '%s\n' -XX:+UseSerialGC -XX:TieredStopAtLevel=1
}
