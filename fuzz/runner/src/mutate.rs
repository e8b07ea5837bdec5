//! Random mutations of inputs.

use crate::Draw;

/// Numbers at the borders of what lengths, counts and codes may be.
const BORDERS: [i64; 16] = [
    0,
    1,
    -1,
    -2,
    2,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    i64::MAX,
    i64::MIN,
];

/// Characters with a meaning in some of the formats.
const SIGNS: &[u8] = b"\"'\\{}[]()<>,;:.=?*+-_#/$%&|~^@! \t\n\r\0\x7f09aAzZeE";

/// A mutation of one of the inputs, at most `longest` bytes long. There is at least one input.
pub fn mutated(draw: &mut Draw, inputs: &[Vec<u8>], longest: usize) -> Vec<u8> {
    let mut input = draw.pick(inputs).clone();
    let steps = 1 << draw.below(4);
    for _ in 0..=draw.below(steps) {
        change(draw, &mut input, inputs);
    }
    input.truncate(longest);
    input
}

/// A place and a length within `length` bytes; short ones more often.
fn range(draw: &mut Draw, length: usize) -> std::ops::Range<usize> {
    let at = draw.below(length);
    let most = match draw.below(4) {
        0 => length,
        1 => 32,
        _ => 4,
    };
    let end = (at + 1 + draw.below(most)).min(length);
    at.min(end)..end
}

/// Replaces a part.
fn insert(input: &mut Vec<u8>, range: std::ops::Range<usize>, new: Vec<u8>) {
    drop(input.splice(range, new));
}

/// One step.
fn change(draw: &mut Draw, input: &mut Vec<u8>, inputs: &[Vec<u8>]) {
    let at = draw.below(input.len());
    if input.is_empty() {
        input.push(draw.byte());
        return;
    }
    match draw.below(14) {
        0 => input[at] ^= 1 << draw.below(8),
        1 => input[at] = draw.byte(),
        2 => input[at] = *draw.pick(SIGNS),
        3 => input[at] = input[at].wrapping_add(*draw.pick(&[1, 2, 16, 255, 254])),
        4 => input.insert(at, *draw.pick(SIGNS)),
        5 => {
            let new: Vec<u8> = (0..=draw.below(8)).map(|_| draw.byte()).collect();
            insert(input, at..at, new);
        }
        6 => insert(input, range(draw, input.len()), Vec::new()),
        7 => input.truncate(at),
        8 => {
            let part = input[range(draw, input.len())].to_vec();
            let most = if draw.one_in(16) { 200 } else { 3 };
            let times = 1 + draw.below(most);
            insert(input, at..at, part.repeat(times));
        }
        9 => {
            let bytes = draw.pick(&BORDERS).to_be_bytes();
            let width = *draw.pick(&[1, 2, 4, 8]);
            let end = (at + width).min(input.len());
            insert(input, at..end, bytes[8 - width..].to_vec());
        }
        10 => {
            // A decimal number in place of one, or anywhere.
            let digits = input[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let number = match draw.below(3) {
                0 => draw.pick(&BORDERS).to_string(),
                1 => draw.below(100).to_string(),
                _ => format!("{}", draw.any() as i64),
            };
            insert(input, at..at + digits, number.into_bytes());
        }
        11 => {
            let other = draw.pick(inputs);
            if !other.is_empty() {
                let part = other[range(draw, other.len())].to_vec();
                let end = if draw.one_in(2) { (at + part.len()).min(input.len()) } else { at };
                insert(input, at..end, part);
            }
        }
        12 => {
            let other = draw.pick(inputs);
            let from = draw.below(other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        _ => {
            let (one, other) = (range(draw, input.len()), range(draw, input.len()));
            let (first, second) = if one.start < other.start { (one, other) } else { (other, one) };
            if first.end <= second.start {
                let (a, b) = (input[first.clone()].to_vec(), input[second.clone()].to_vec());
                insert(input, second, a);
                insert(input, first, b);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn mutations_repeat_differ_and_are_not_too_long() {
        let inputs = [b"SELECT * FROM t WHERE a = 17".to_vec(), vec![0; 40], Vec::new()];
        let all = |seed| {
            let draw = &mut Draw::new(seed, "test");
            (0..2_000).map(|_| mutated(draw, &inputs, 60)).collect::<Vec<_>>()
        };
        let first = all(1);
        assert_eq!(first, all(1));
        assert!(first.iter().all(|input| input.len() <= 60));
        let different: BTreeSet<_> = first.iter().filter(|input| !inputs.contains(input)).collect();
        assert!(different.len() > 1_500, "{}", different.len());
    }
}
