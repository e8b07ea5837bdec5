//! Decoding allocates no more than a small multiple of the record.

use exactlyonce::decode::Decoder;
use exactlyonce::event::Record;
use exactlyonce::store::Binding;
use exactlyonce::truth;

use crate::allocations::peak;
use crate::{binding, default_binding, record};

/// Maximum peak allocation of decoding a record of `length` bytes, in bytes: for the pipeline (whose row takes the
/// record's own bytes) and for the ground truth (whose row copies them).
fn bounds(length: usize) -> (usize, usize) {
    (4 * length + 1_024, 8 * length + 1_024)
}

pub fn check(record: &Record, binding: &Binding) {
    let decoder = Decoder { window: binding.window, max_mutation_bytes: binding.max_mutation_bytes as usize };
    let (most, most_of_truth) = bounds(record.len());
    let copy = record.clone();
    let (_, bytes) = peak(|| decoder.row(copy));
    assert!(bytes <= most, "the pipeline allocates {bytes} bytes for {} of {record:.300?}", record.len());
    let (_, bytes) = peak(|| truth::row(record, binding));
    assert!(
        bytes <= most_of_truth,
        "the truth allocates {bytes} bytes for {} of {record:.300?}",
        record.len()
    );
}

#[test]
fn decoding_allocates_at_most_a_small_multiple_of_the_record() {
    const N: usize = 200_000;
    let fields = r#""id":1,"ts":2,"client":"c","health":2"#;
    let values = [
        "[".repeat(N),
        "{\"a\":".repeat(N / 5),
        format!("{{\"x\":{}{},{fields},\"source\":\"s\"}}", "[".repeat(N / 2), "]".repeat(N / 2)),
        format!("{{{fields},\"source\":\"{}\"}}", "a".repeat(N)),
        format!("{{{fields},\"source\":\"{}\"}}", "\\n".repeat(N / 2)),
        format!("{{{fields},\"source\":\"{}\"}}", "\\u20ac".repeat(N / 6)),
        format!("{{{fields},\"source\":\"{}\"}}", "€".repeat(N / 3)),
        format!("{{{fields},\"source\":\"{}\\ud800\"}}", "€".repeat(N / 3)),
        format!("{{{fields},\"source\":\"s\",\"{}\":1}}", "\\u0069".repeat(N / 6)),
        format!("{{{fields},\"source\":{}}}", "9".repeat(N)),
        format!("{{{fields},\"source\":\"s\",\"n\":0.{}e{}}}", "9".repeat(N / 2), "9".repeat(N / 2)),
        format!("{{{}{fields},\"source\":\"s\"}}", "\"id\":1,".repeat(N / 7)),
        format!("{{{}{fields},\"source\":\"s\"}}", "\"\":[],".repeat(N / 6)),
        format!("[{}1]", "1,".repeat(N / 2)),
        // Texts that a parser might quote and escape in an error.
        format!("\"{}\"", "\u{7f}".repeat(N)),
        format!("{{\"id\":\"{}\"}}", "\u{7f}".repeat(N)),
        format!("{{\"health\":\"{}\"}}", "\\n\u{7f}".repeat(N / 3)),
        format!("{{\"source\":[\"{}\"]}}", "\u{7f}".repeat(N)),
        format!("{{\"{}\":0x}}", "\u{7f}".repeat(N)),
        " ".repeat(N),
        String::new(),
    ];
    for value in values {
        check(&record(value.clone()), &default_binding());
        check(&record(value.clone()), &binding(default_binding().window, 100));
    }
    check(&Record { key: None, value: None, ..record("") }, &default_binding());
    check(&record(vec![0xff; N]), &default_binding());
}
