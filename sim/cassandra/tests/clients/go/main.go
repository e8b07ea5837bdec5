// A client with gocql's default settings, but for the port: no version of the protocol, no keyspace.
package main

import (
	"fmt"
	"log"
	"os"
	"strconv"

	gocql "github.com/apache/cassandra-gocql-driver/v2"
)

func check(what string, err error) {
	if err != nil {
		log.Fatalf("%s: %v", what, err)
	}
}

func main() {
	port, err := strconv.Atoi(os.Args[2])
	check("port", err)
	cluster := gocql.NewCluster(os.Args[1])
	cluster.Port = port
	session, err := cluster.CreateSession()
	check("connect", err)
	defer session.Close()
	fmt.Println("checked: connect")

	check("keyspace", session.Query("CREATE KEYSPACE g WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 3}").Exec())
	check("table", session.Query("CREATE TABLE g.t (a int, b int, c text, PRIMARY KEY (a, b))").Exec())
	for i := 0; i < 25; i++ {
		check("insert", session.Query("INSERT INTO g.t (a, b, c) VALUES (?, ?, ?)", 1, i, fmt.Sprint(i)).Exec())
	}
	fmt.Println("checked: write")

	iter := session.Query("SELECT b, c FROM g.t WHERE a = ?", 1).PageSize(10).Iter()
	var b, count int
	var c string
	for iter.Scan(&b, &c) {
		if c != fmt.Sprint(b) {
			log.Fatalf("row %d has %s", b, c)
		}
		count++
	}
	check("pages", iter.Close())
	if count != 25 {
		log.Fatalf("%d rows", count)
	}
	fmt.Println("checked: pages")

	batch := session.Batch(gocql.LoggedBatch)
	batch.Query("INSERT INTO g.t (a, b) VALUES (?, ?)", 2, 1)
	batch.Query("INSERT INTO g.t (a, b) VALUES (?, ?)", 3, 1)
	check("batch", batch.Exec())
	fmt.Println("checked: batch")

	applied, err := session.Query("INSERT INTO g.t (a, b) VALUES (2, 1) IF NOT EXISTS").MapScanCAS(map[string]interface{}{})
	check("condition", err)
	if applied {
		log.Fatal("the row was there")
	}
	fmt.Println("checked: condition")
}
