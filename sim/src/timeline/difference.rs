//! Where two runs of a scenario part: the first thing that one does and the other does not, or does otherwise.

use serde::{Deserialize, Serialize};

use crate::timeline::{Item, Kind, Outcome, Timeline};

/// The first difference of two timelines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What the first does, as a place in its items; none if it has ended.
    pub first: Option<u32>,
    /// What the second does.
    pub second: Option<u32>,
    /// When each of them does it, in simulated microseconds.
    pub at: (u64, u64),
    /// True if both begin it in the same way, and it ends otherwise.
    pub is_end: bool,
}

/// The beginning or the end of an item.
struct Moment<'a> {
    at: u64,
    place: u32,
    item: &'a Item,
    is_end: bool,
}

/// Beginnings and ends, in order.
fn moments(timeline: &Timeline) -> Vec<Moment<'_>> {
    let mut moments = Vec::with_capacity(2 * timeline.items.len());
    for (place, item) in (0..).zip(&timeline.items) {
        moments.push(Moment { at: item.start, place, item, is_end: false });
        if let Some(at) = item.end {
            moments.push(Moment { at, place, item, is_end: true });
        }
    }
    moments.sort_by_key(|moment| moment.at);
    moments
}

/// What is compared of a moment: of a beginning only what is known then.
#[derive(PartialEq)]
struct Key<'a> {
    at: u64,
    kind: Kind,
    lanes: (Option<u16>, Option<u16>),
    text: &'a str,
    end: Option<(Outcome, &'a [(String, String)])>,
}

fn key<'a>(moment: &'a Moment<'_>) -> Key<'a> {
    let Moment { at, item, is_end, .. } = moment;
    let is_known = *is_end || item.end.is_none();
    Key {
        at: *at,
        kind: item.kind,
        lanes: (item.lane, item.to),
        text: &item.text,
        end: is_known.then_some((item.outcome, &item.details)),
    }
}

/// The first difference of two timelines, if there is one.
pub fn first_difference(first: &Timeline, second: &Timeline) -> Option<Difference> {
    let (one, other) = (moments(first), moments(second));
    let same = one.iter().zip(&other).take_while(|(one, other)| key(one) == key(other)).count();
    let (one, other) = (one.get(same), other.get(same));
    if one.is_none() && other.is_none() {
        return None;
    }
    let at =
        |moment: Option<&Moment<'_>>, timeline: &Timeline| moment.map_or(timeline.end, |moment| moment.at);
    Some(Difference {
        first: one.map(|moment| moment.place),
        second: other.map(|moment| moment.place),
        at: (at(one, first), at(other, second)),
        is_end: one.is_some_and(|moment| moment.is_end) && other.is_some_and(|moment| moment.is_end),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(start: u64, end: Option<u64>, text: &str) -> Item {
        Item {
            kind: Kind::Write,
            lane: Some(0),
            to: None,
            start,
            event: 0,
            end,
            end_event: None,
            outcome: Outcome::None,
            text: text.to_owned(),
            details: Vec::new(),
            partitions: Vec::new(),
            sources: Vec::new(),
            peer: None,
            affects: Vec::new(),
        }
    }

    fn timeline(items: &[Item]) -> Timeline {
        Timeline { items: items.to_vec(), end: 90, ..Timeline::default() }
    }

    #[test]
    fn runs_part_where_one_does_something_else() {
        let same = [item(1, Some(5), "a"), item(2, None, "b")];
        assert_eq!(first_difference(&timeline(&same), &timeline(&same)), None);
        let one = timeline(&[same.as_slice(), &[item(6, None, "c")]].concat());
        let other = timeline(&[same.as_slice(), &[item(6, None, "d")]].concat());
        let found = first_difference(&one, &other).expect("they differ");
        assert_eq!((found.first, found.second, found.at, found.is_end), (Some(2), Some(2), (6, 6), false));
        let found = first_difference(&one, &timeline(&same)).expect("one ends");
        assert_eq!((found.first, found.second, found.at), (Some(2), None, (6, 90)));
    }

    #[test]
    fn an_end_may_be_the_difference() {
        let of = |outcome| timeline(&[Item { outcome, ..item(1, Some(5), "a") }]);
        let found = first_difference(&of(Outcome::Acknowledged), &of(Outcome::Unknown)).expect("they differ");
        assert_eq!((found.at, found.is_end), ((5, 5), true));
        let of = |value: &str| {
            let details = vec![("read".to_owned(), value.to_owned())];
            timeline(&[Item { details, ..item(1, Some(5), "a") }])
        };
        let found = first_difference(&of("3"), &of("4")).expect("they differ");
        assert_eq!((found.at, found.is_end), ((5, 5), true));
    }
}
