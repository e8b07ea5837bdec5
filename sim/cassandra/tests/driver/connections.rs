//! Connections: metadata, compression, restarts.

use scylla::frame::Compression;

use crate::nodes::Nodes;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_driver_reads_the_nodes_and_the_schema() {
    let nodes = Nodes::start(3).await;
    let session = nodes.session().await;
    session
        .query_unpaged(
            "CREATE TABLE k.t (a int, b text, c frozen<map<text, int>>, d uuid STATIC, PRIMARY KEY ((a, b), c)) WITH CLUSTERING ORDER BY (c DESC)",
            &[],
        )
        .await
        .unwrap();
    session.await_schema_agreement().await.unwrap();
    session.refresh_metadata().await.unwrap();
    let state = session.get_cluster_state();
    assert_eq!(state.get_nodes_info().len(), 3);
    let table = &state.get_keyspace("k").expect("the keyspace is known").tables["t"];
    assert_eq!(table.partition_key, ["a", "b"]);
    assert_eq!(table.clustering_key, ["c"]);
    assert_eq!(table.columns.len(), 4);
    assert!(state.get_keyspace("system_schema").is_some());
    let replicas = state.get_endpoints("k", "t", &(1, "x")).unwrap();
    assert_eq!(replicas.len(), 3, "the driver knows the ring");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_are_compressed_as_the_client_requests() {
    let nodes = Nodes::start(1).await;
    nodes.session().await.query_unpaged("CREATE TABLE k.t (a int PRIMARY KEY, b text)", &[]).await.unwrap();
    let long = "a long text ".repeat(10_000);
    for compression in [Compression::Lz4, Compression::Snappy] {
        let session = nodes.builder().compression(Some(compression)).build().await.unwrap();
        session.query_unpaged("INSERT INTO k.t (a, b) VALUES (1, ?)", (&long,)).await.unwrap();
        let result = session.query_unpaged("SELECT b FROM k.t WHERE a = 1", &[]).await.unwrap();
        let (found,) = result.into_rows_result().unwrap().single_row::<(String,)>().unwrap();
        assert_eq!(found, long);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_node_has_forgotten_prepared_statements_and_the_driver_prepares_again() {
    let nodes = Nodes::start(1).await;
    let session = nodes.session().await;
    session.query_unpaged("CREATE TABLE k.t (a int PRIMARY KEY, b int)", &[]).await.unwrap();
    let insert = session.prepare("INSERT INTO k.t (a, b) VALUES (?, ?)").await.unwrap();
    session.execute_unpaged(&insert, (1, 1)).await.unwrap();
    nodes.kill(1);
    nodes.restart(1).await;
    let mut done = false;
    for _ in 0..200 {
        // The driver connects again after a while.
        done = session.execute_unpaged(&insert, (2, 2)).await.is_ok();
        if done {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(done, "the statement never succeeded after the restart");
    let result = session.query_unpaged("SELECT a FROM k.t", &[]).await.unwrap();
    assert_eq!(result.into_rows_result().unwrap().rows_num(), 2, "a killed node keeps its log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quorums_are_written_and_read_while_one_of_three_nodes_is_dead() {
    let nodes = Nodes::start(3).await;
    let session = nodes.session().await;
    session.query_unpaged("CREATE TABLE k.t (a int PRIMARY KEY, b int)", &[]).await.unwrap();
    session.await_schema_agreement().await.unwrap();
    nodes.kill(3);
    let mut insert = scylla::statement::unprepared::Statement::new("INSERT INTO k.t (a, b) VALUES (?, ?)");
    insert.set_is_idempotent(true);
    for a in 0..20 {
        session.query_unpaged(insert.clone(), (a, a)).await.unwrap();
    }
    // A read of many partitions asks no other replica when one stays silent, so it fails before this.
    nodes.until_noticed(3).await;
    let result = session.query_unpaged("SELECT a FROM k.t", &[]).await.unwrap();
    assert_eq!(result.into_rows_result().unwrap().rows_num(), 20);
}
