//! Frames that are damaged: a response or the end of the connection, and nothing else.

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use simulated_kafka::protocol::messages::ApiKey;
use simulated_kafka::protocol::versions::OFFERED;

use crate::harness::Testbed;

/// A frame of a request with these bytes as its body.
fn frame(key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut request = Vec::new();
    request.extend_from_slice(&key.to_be_bytes());
    request.extend_from_slice(&version.to_be_bytes());
    request.extend_from_slice(&7i32.to_be_bytes());
    request.extend_from_slice(&(-1i16).to_be_bytes());
    request.extend_from_slice(body);
    [&(request.len() as u32).to_be_bytes()[..], &request].concat()
}

#[tokio::test(start_paused = true)]
async fn requests_of_random_bytes_get_a_response_or_the_end_of_the_connection() {
    let bed = Testbed::start().await;
    bed.topic("t", &[1, 2, 3], &[]).await;
    let mut random = ChaCha8Rng::seed_from_u64(1);
    for offered in OFFERED {
        for version in offered.oldest..=offered.newest {
            for round in 0..12 {
                let mut body = vec![0; (random.next_u64() % 80) as usize];
                random.fill_bytes(&mut body);
                // Mostly small numbers, so that lengths are plausible.
                for byte in &mut body {
                    if random.next_u64() % 4 > u64::from(round % 4 == 0) {
                        *byte %= 3;
                    }
                }
                let sent = frame(offered.key as i16, version, &body);
                let received = bed.send_bytes(1 + round % 3, &sent).await;
                if received.is_none() && offered.key == ApiKey::AddPartitionsToTxn {
                    // Without transactions it has no response.
                    continue;
                }
                let received =
                    received.unwrap_or_else(|| panic!("{:?} {version} hangs: {body:?}", offered.key));
                if let Some((length, rest)) = received.split_first_chunk::<4>() {
                    assert_eq!(u32::from_be_bytes(*length) as usize, rest.len(), "{:?}", offered.key);
                    assert_eq!(rest.get(..4), Some(&7i32.to_be_bytes()[..]));
                }
            }
        }
    }
    assert_eq!(bed.produce("t", &["still there"], -1).await, Ok(0));
}

#[tokio::test(start_paused = true)]
async fn a_frame_that_claims_more_than_there_is_is_no_request() {
    let bed = Testbed::start().await;
    for claimed in [0u32, 1, 3, 9, 1 << 20, 99 << 20, 1 << 31, u32::MAX] {
        let mut bytes = claimed.to_be_bytes().to_vec();
        bytes.extend_from_slice(&[0, 3, 0, 4]);
        assert_eq!(bed.send_bytes(1, &bytes).await, Some(Vec::new()), "{claimed}");
    }
}
