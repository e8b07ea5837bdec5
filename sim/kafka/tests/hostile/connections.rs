//! Frames that are too long or not whole, and many connections.

use std::time::Duration;

use simulated_kafka::serve::connect;
use simulated_kafka::server::ServerOptions;
use simulated_kafka::types::NodeId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::Target;
use crate::memory::most_of;

#[test]
fn a_frame_longer_than_allowed_ends_the_connection_without_memory_for_it() {
    let target = Target::start();
    let frame = |length: i32, key: i16| [&length.to_be_bytes()[..], &key.to_be_bytes(), &[0; 60]].concat();
    for (length, key) in
        [(-1, 0), (i32::MIN, 0), (i32::MAX, 0), ((100 << 20) + 1, 0), ((4 << 20) + 1, 3), (3, 3)]
    {
        let (received, taken) = target.send(&frame(length, key));
        assert_eq!(received.as_deref(), Some(&[][..]), "{length}");
        assert!(taken < 1 << 20, "{length}: {taken} bytes");
    }
    target.still_serves();
}

#[test]
fn half_a_frame_and_silence_takes_no_more_than_what_arrived_and_keeps_nobody_waiting() {
    let target = Target::start();
    let ((), taken) = most_of(|| {
        target.runtime.block_on(async {
            let broker = target.bed.cluster.broker(NodeId(1)).expect("a broker");
            let mut connections = Vec::new();
            for _ in 0..1000 {
                let mut connection = connect(&broker, ServerOptions::default());
                let begin = [&(100i32 << 20).to_be_bytes()[..], &[0, 0, 0, 9, 0, 0, 0, 1]].concat();
                connection.write_all(&begin).await.expect("it is open");
                connections.push(connection);
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(target.bed.produce("t", &["not kept waiting"], -1).await.is_ok());
            // The first of them is still open.
            let read = tokio::time::timeout(Duration::from_secs(60), connections[0].read_u8()).await;
            assert!(read.is_err(), "{read:?}");
        });
    });
    // The buffers of a connection and its first part of a frame.
    assert!(taken < 1000 * (150 << 10), "{taken} bytes");
}

#[test]
fn connections_that_end_leave_nothing_behind() {
    let target = Target::start();
    let open = || {
        target.runtime.block_on(async {
            let broker = target.bed.cluster.broker(NodeId(1)).expect("a broker");
            for round in 0..500 {
                let mut connection = connect(&broker, ServerOptions::default());
                let _ = connection.write_all(&[0, 0, 0, 9, 0, 3][..round % 7]).await;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        });
    };
    open();
    let held = most_of(open).1;
    let again = most_of(|| (0..4).for_each(|_| open())).1;
    assert!(again < held + held / 2 + (1 << 20), "{again} bytes for four times what took {held}");
    target.still_serves();
}
