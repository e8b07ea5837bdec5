//! Rows: every row that a worker writes is that of the record at its offset, in the right table.

use exactlyonce::event::Row;

use crate::oracle::truth::Truth;
use crate::oracle::{Difference, Position, Violation};

/// The rows that a worker is about to write.
pub(crate) fn before(truth: &Truth, partition: i32, rows: &[(i64, Row)]) -> Vec<Violation> {
    let wrong = |(offset, row): &(i64, Row)| {
        let position = Position { partition, offset: *offset };
        let expected = truth.record(partition, *offset).map(|(_, row)| row);
        match (row, expected) {
            (row, Some(expected)) if row == expected => None,
            (Row::Event(found), Some(Row::Event(expected))) => {
                Some(Violation::AlteredEvent(position, Difference::of(found, expected)))
            }
            (Row::DeadLetter(found), Some(Row::DeadLetter(expected))) => {
                Some(Violation::AlteredDeadLetter(position, Difference::of_letters(found, expected)))
            }
            (Row::Event(_), _) => Some(Violation::ForeignEvent(position)),
            (Row::DeadLetter(_), _) => Some(Violation::ForeignDeadLetter(position)),
        }
    };
    rows.iter().filter_map(wrong).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::truth::tests::{binding, event};

    #[test]
    fn a_row_that_is_not_that_of_its_record_is_a_violation() {
        let mut truth = Truth::new(binding());
        truth.add(event(0, 3, 1));
        let invalid = exactlyonce::event::Record { value: None, offset: 4, ..event(0, 3, 1) };
        truth.add(invalid);
        let row = |offset| truth.record(0, offset).expect("it was added").1.clone();
        let names = |partition, offset, row| {
            let found = before(&truth, partition, &[(offset, row)]);
            found.iter().map(Violation::name).collect::<Vec<_>>()
        };
        assert!(names(0, 3, row(3)).is_empty() && names(0, 4, row(4)).is_empty());
        assert_eq!(names(0, 5, row(3)), ["foreign_event"]);
        assert_eq!(names(1, 3, row(3)), ["foreign_event"]);
        assert_eq!(names(0, 3, row(4)), ["foreign_dead_letter"]);
        assert_eq!(names(0, 4, row(3)), ["foreign_event"]);
        let Row::Event(mut event) = row(3) else { panic!("an event") };
        event.id += 1;
        assert_eq!(names(0, 3, Row::Event(event)), ["altered_event"]);
        let Row::DeadLetter(mut letter) = row(4) else { panic!("a dead letter") };
        letter.timestamp += 1;
        assert_eq!(names(0, 4, Row::DeadLetter(letter)), ["altered_dead_letter"]);
    }
}
