//! Records that are not valid events, one kind for each [`Reason`].

use rand_chacha::ChaCha8Rng;

use super::json;
use crate::event::{CLIENT_BYTES, Event, Field, Reason, SOURCE_BYTES};
use crate::random::below;

/// True if some record can have this reason. (A number cannot be too long, nor a string out of range.)
pub fn can_occur(reason: Reason) -> bool {
    match reason {
        Reason::NotUnicode(field) | Reason::TooLong(field) => is_text(field),
        Reason::OutOfRange(field) => !is_text(field),
        Reason::TooShort(field) => field == Field::Source,
        Reason::TooLarge
        | Reason::NullValue
        | Reason::Empty
        | Reason::NotUtf8
        | Reason::NotJson
        | Reason::NotAnObject
        | Reason::DuplicateField(_)
        | Reason::MissingField(_)
        | Reason::WrongType(_)
        | Reason::UnknownHealth
        | Reason::WindowOverflow => true,
    }
}

fn is_text(field: Field) -> bool {
    match field {
        Field::Source | Field::Client => true,
        Field::Id | Field::Ts | Field::Health => false,
    }
}

/// The value of a record that is a dead letter for this reason and no other, and that is like the event's otherwise.
/// `size` is the minimum length of a value that is [`Reason::TooLarge`], in bytes. `None` is a null value.
///
/// Where the reason [cannot occur](can_occur), the value is that of the event.
pub fn malformed(reason: Reason, event: &Event, size: usize, rng: &mut ChaCha8Rng) -> Option<Vec<u8>> {
    let whole = json(event);
    let mut fields = Fields::of(event);
    if !can_occur(reason) {
        return Some(whole);
    }
    match reason {
        Reason::NullValue => return None,
        Reason::Empty => return Some(Vec::new()),
        Reason::NotUtf8 => return Some(spliced(whole, &[0xff])),
        Reason::NotJson => {
            return Some(match below(rng, 4) {
                0 => whole[..whole.len() - 1].to_vec(),
                1 => spliced(whole, b"\0"),
                2 => [whole, b" and more".to_vec()].concat(),
                _ => b"health: critical".to_vec(),
            });
        }
        Reason::NotAnObject => {
            let values: [&[u8]; 6] = [b"null", b"true", b"42", b"\"critical\"", b"[]", b"[1,2]"];
            return Some(pick(rng, &values).to_vec());
        }
        Reason::TooLarge => fields.add("padding", format!("\"{}\"", "x".repeat(size))),
        Reason::DuplicateField(field) => fields.add(field.name(), fields.get(field)),
        Reason::MissingField(field) => fields.remove(field),
        Reason::WrongType(field) => fields.set(
            field,
            match is_text(field) {
                true => pick(rng, &["7", "null", "false", "[]", "{}"]),
                false => pick(rng, &["\"7\"", "null", "true", "[]", "{}", "1.5", "1.0", "1e3"]),
            },
        ),
        Reason::NotUnicode(field) => fields.set(field, pick(rng, &[r#""\ud800""#, r#""a\udc00b""#])),
        Reason::OutOfRange(field) => {
            fields.set(field, pick(rng, &["9223372036854775808", "-9223372036854775809"]));
        }
        Reason::UnknownHealth => fields.set(Field::Health, pick(rng, &["3", "-1", "255"])),
        Reason::TooShort(field) => fields.set(field, "\"\""),
        Reason::TooLong(field) => {
            let most = match field {
                Field::Source => *SOURCE_BYTES.end(),
                _ => *CLIENT_BYTES.end(),
            };
            fields.set(field, &format!("\"{}\"", "x".repeat(most + 1)));
        }
        Reason::WindowOverflow => fields.set(Field::Ts, &i64::MAX.to_string()),
    }
    Some(fields.text())
}

fn pick<'a, T: ?Sized>(rng: &mut ChaCha8Rng, choices: &[&'a T]) -> &'a T {
    choices[below(rng, choices.len() as u64) as usize]
}

/// Puts bytes into the last string of the event's JSON, that of its client.
fn spliced(mut json: Vec<u8>, bytes: &[u8]) -> Vec<u8> {
    let quote = json.iter().rposition(|byte| *byte == b'"').unwrap_or(0);
    // The last quote ends `"health"`; the third last one ends the client.
    let end = json[..quote].iter().rposition(|byte| *byte == b'"').unwrap_or(0);
    let end = json[..end].iter().rposition(|byte| *byte == b'"').unwrap_or(0);
    json.splice(end..end, bytes.iter().copied());
    json
}

/// The fields of an object: names, and values as JSON.
struct Fields(Vec<(&'static str, String)>);

impl Fields {
    fn of(event: &Event) -> Self {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let value = |field| match field {
            Field::Id => event.id.to_string(),
            Field::Ts => event.ts.to_string(),
            Field::Source => text(&event.source),
            Field::Client => text(&event.client),
            Field::Health => event.health.code().to_string(),
        };
        Self(Field::ALL.map(|field| (field.name(), value(field))).to_vec())
    }

    fn get(&self, field: Field) -> String {
        self.0[field as usize].1.clone()
    }

    fn set(&mut self, field: Field, value: &str) {
        self.0[field as usize].1 = value.to_owned();
    }

    fn add(&mut self, name: &'static str, value: String) {
        self.0.push((name, value));
    }

    fn remove(&mut self, field: Field) {
        self.0.remove(field as usize);
    }

    fn text(&self) -> Vec<u8> {
        let fields: Vec<String> = self.0.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        format!("{{{}}}", fields.join(",")).into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::Decoder;
    use crate::event::{Health, Record};
    use crate::random::seeded;
    use crate::window::WindowSpec;

    fn event() -> Event {
        let (source, client) = ("Router 1".to_owned(), "Dr. \"Evil\"".to_owned());
        Event { id: 1, ts: 2, source, client, health: Health::Critical }
    }

    #[test]
    fn every_malformed_record_is_a_dead_letter_for_the_requested_reason() {
        let decoder = Decoder { window: WindowSpec::default(), max_mutation_bytes: 4_096 };
        let mut rng = seeded(0);
        let (mut made, mut values) = (0, std::collections::BTreeSet::new());
        for reason in Reason::all() {
            for _ in 0..40 {
                let value = malformed(reason, &event(), 4_096, &mut rng);
                values.insert(value.clone());
                let record = Record { partition: 0, offset: 0, timestamp: 0, key: None, value };
                let expected = if can_occur(reason) { Err(reason) } else { Ok(event()) };
                assert_eq!(decoder.event(&record), expected, "{record:?}");
            }
            made += usize::from(can_occur(reason));
        }
        assert_eq!(made, 31, "reasons that can occur");
        assert!(values.len() > 60, "{} different values", values.len());
    }

    #[test]
    fn the_reasons_that_cannot_occur_are_those_of_no_record() {
        let never: Vec<String> = Reason::all().filter(|r| !can_occur(*r)).map(Reason::code).collect();
        let expected = "not_unicode:id not_unicode:ts not_unicode:health out_of_range:source \
                        out_of_range:client too_short:id too_short:ts too_short:client too_short:health \
                        too_long:id too_long:ts too_long:health";
        assert_eq!(never.join(" "), expected);
    }
}
