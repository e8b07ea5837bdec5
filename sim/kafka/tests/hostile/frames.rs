//! Damaged requests of every kind and version.

use bytes::Bytes;
use simulated_kafka::protocol::messages::ApiKey;
use simulated_kafka::protocol::versions::{OFFERED, Offered};

use crate::Target;
use crate::requests::{self, Draw, check_response, frame, framed};

/// More than any request takes on a busy machine, and far less than work in proportion to the square of its length.
const LONGEST: std::time::Duration = std::time::Duration::from_secs(60);

/// Memory that one request may take besides its bytes and those of its response, each several times: a decoded element
/// is larger than on the wire, where it may have two bytes.
fn allowance(bytes: usize) -> usize {
    (1 << 20) + 400 * bytes
}

fn each_version() -> impl Iterator<Item = (Offered, i16)> {
    OFFERED
        .iter()
        .flat_map(|offered| (offered.oldest..=offered.newest).map(move |version| (*offered, version)))
}

fn whole(offered: Offered, version: i16, body: &[u8]) -> Vec<u8> {
    frame(offered.key as i16, version, offered.key.request_header_version(version), body)
}

/// Whether a broker may wait before it responds, for longer than a minute if the request says so.
fn may_wait(key: ApiKey) -> bool {
    // AddPartitionsToTxn without transactions has no response at all, nor has AlterConfigs that names a resource twice.
    matches!(
        key,
        ApiKey::Fetch
            | ApiKey::JoinGroup
            | ApiKey::SyncGroup
            | ApiKey::Produce
            | ApiKey::AddPartitionsToTxn
            | ApiKey::AlterConfigs
    )
}

/// Checks that this is nothing, or one whole response.
fn check(offered: Offered, version: i16, sent: &[u8], received: Option<Vec<u8>>, taken: usize) -> bool {
    let key = offered.key;
    let limit = allowance(sent.len() + received.as_ref().map_or(0, Vec::len));
    assert!(
        taken <= limit,
        "{key:?} {version}: {taken} bytes of memory for {} bytes {:?}",
        sent.len(),
        &sent[..sent.len().min(200)]
    );
    let Some(received) = received else {
        assert!(may_wait(key), "{key:?} {version} hangs: {sent:?}");
        return false;
    };
    let Some((length, response)) = received.split_first_chunk::<4>() else { return false };
    assert_eq!(u32::from_be_bytes(*length) as usize, response.len(), "{key:?} {version}: {sent:?}");
    if let Err(error) = check_response(key, version, Bytes::copy_from_slice(response)) {
        panic!("{key:?} {version}: the response to {sent:?} is malformed: {error}");
    }
    true
}

#[test]
fn a_whole_request_of_every_version_has_a_response_and_one_that_is_cut_has_none() {
    let target = Target::start();
    let mut draw = Draw::new(1);
    for (offered, version) in each_version() {
        let (mut responses, mut waiting) = (0, 0);
        for _ in 0..4 {
            let body = requests::body(offered.key, version, &mut draw);
            let sent = whole(offered, version, &body);
            let (received, taken) = target.send(&sent);
            waiting += usize::from(received.is_none());
            responses += usize::from(check(offered, version, &sent, received, taken));
            for _ in 0..6 {
                let cut = framed(&sent[4..4 + draw.below(sent.len() - 4)]);
                let (received, _) = target.send(&cut);
                assert_eq!(received.as_deref(), Some(&[][..]), "{:?} {version}: {cut:?}", offered.key);
            }
        }
        // A produce request may ask for no response, and one for metadata have a null where its version has none.
        let may_be_closed = matches!(offered.key, ApiKey::Produce | ApiKey::Metadata);
        let all = may_be_closed || responses + waiting == 4;
        assert!(all, "{:?} {version}: {responses} responses, {waiting} hang", offered.key);
    }
    target.still_serves();
}

#[test]
fn a_damaged_request_of_every_version_has_a_response_or_the_connection_ends() {
    let target = Target::start();
    let mut draw = Draw::new(2);
    for (offered, version) in each_version() {
        for _ in 0..12 {
            let body = requests::body(offered.key, version, &mut draw);
            let mut sent = whole(offered, version, &body);
            // The key, the version and the correlation id stay.
            let mut rest = sent.split_off(12);
            requests::damage(&mut rest, &mut draw);
            sent.extend(rest);
            let sent = framed(&sent[4..]);
            let (received, taken) = target.send(&sent);
            check(offered, version, &sent, received, taken);
        }
    }
    target.still_serves();
}

#[test]
fn an_array_of_thousands_of_elements_takes_memory_and_time_in_proportion() {
    let target = Target::start();
    for offered in OFFERED {
        // The oldest and the newest encoding.
        for version in [offered.oldest, offered.newest] {
            for body in requests::with_long_arrays(offered.key, version, 2500) {
                let sent = whole(*offered, version, &body);
                let begin = std::time::Instant::now();
                let (received, taken) = target.send(&sent);
                check(*offered, version, &sent, received, taken);
                let elapsed = begin.elapsed();
                assert!(elapsed < LONGEST, "{:?} {version}: {elapsed:?}", offered.key);
            }
        }
    }
    target.still_serves();
}

#[test]
fn a_count_that_the_frame_is_too_short_for_takes_no_memory() {
    let target = Target::start();
    for (offered, version) in each_version() {
        for claim in [&[0x7f, 0xff, 0xff, 0xff, 0][..], &[0xff, 0xff, 0xff, 0xff, 0x0f]] {
            for before in 0..24 {
                let body = [&vec![0; before][..], claim, &[0; 8]].concat();
                let sent = whole(offered, version, &body);
                let (received, taken) = target.send(&sent);
                check(offered, version, &sent, received, taken);
            }
        }
    }
}

#[test]
fn a_large_produce_request_that_claims_many_elements_takes_no_memory_for_them() {
    const LENGTH: usize = 12 << 20;
    let target = Target::start();
    let count = |flexible: bool, count: u32| {
        if flexible {
            let seven = |shift: u32| ((count + 1) >> shift) as u8 & 0x7f;
            let mut bytes: Vec<u8> = (0..5).map(|place| seven(7 * place) | 0x80).collect();
            bytes[4] &= 0x7f;
            return bytes;
        }
        count.to_be_bytes().to_vec()
    };
    for version in 3..=13 {
        let offered = *OFFERED.iter().find(|offered| offered.key == ApiKey::Produce).expect("offered");
        let flexible = version >= 9;
        let no_text = if flexible { &[0][..] } else { &[0xff, 0xff] };
        let name = match version {
            13.. => &[7; 16][..],
            9.. => &[2, b't'],
            _ => &[0, 1, b't'],
        };
        let acks_and_timeout = [0, 1, 0, 0, 0, 9];
        let start = [no_text, &acks_and_timeout].concat();
        let topics = count(flexible, LENGTH as u32 / 2);
        let partitions = [&count(flexible, 1)[..], name, &count(flexible, LENGTH as u32 / 2)].concat();
        for claim in [&topics, &partitions] {
            // Elements that are malformed, and elements that are whole, of a few bytes each.
            for filler in [0xff, 0] {
                let mut body = [&start[..], claim].concat();
                body.resize(LENGTH, filler);
                let sent = whole(offered, version, &body);
                let (received, taken) = target.send(&sent);
                assert_eq!(received.as_deref(), Some(&[][..]), "{version} {filler}");
                // What the frame itself takes while it is read.
                assert!(taken < 5 * LENGTH, "{version} {filler}: {taken} bytes");
            }
        }
    }
    target.still_serves();
}

#[test]
fn an_unknown_request_or_version_ends_the_connection() {
    let target = Target::start();
    for offered in OFFERED.iter().filter(|offered| offered.key != ApiKey::ApiVersions) {
        for version in [i16::MIN, -1, offered.oldest - 1, offered.newest + 1, i16::MAX] {
            let sent = frame(offered.key as i16, version, 2, &[0; 40]);
            assert_eq!(target.send(&sent).0.as_deref(), Some(&[][..]), "{:?} {version}", offered.key);
        }
    }
    for key in [-1, i16::MIN, i16::MAX, 999, 4, 5, 6, 7, 52, 55, 62, 71, 72] {
        let sent = frame(key, 0, 1, &[0; 40]);
        assert_eq!(target.send(&sent).0.as_deref(), Some(&[][..]), "{key}");
    }
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_in_version_0_with_its_own_versions() {
    let target = Target::start();
    let expected = [0, 0, 0, 16, 0, 0, 0, 7, 0, 35, 0, 0, 0, 1, 0, 18, 0, 0, 0, 4];
    for version in [i16::MIN, -1, 5, 99, i16::MAX] {
        let sent = frame(ApiKey::ApiVersions as i16, version, 2, &[]);
        assert_eq!(target.send(&sent).0.as_deref(), Some(&expected[..]), "{version}");
        // A header without tagged fields is whole only in versions that never had any.
        let sent = frame(ApiKey::ApiVersions as i16, version, 1, &[]);
        let expected = if version < 0 { &expected[..] } else { &[] };
        assert_eq!(target.send(&sent).0.as_deref(), Some(expected), "{version}");
    }
}

#[test]
fn bytes_after_a_request_are_ignored() {
    let target = Target::start();
    let sent = frame(ApiKey::Metadata as i16, 4, 1, &[0, 0, 0, 0, 1, b'x', b'x', b'x']);
    let (received, _) = target.send(&sent);
    assert!(received.is_some_and(|received| received.len() > 8));
}
