//! Places among the rows of a partition: the rows themselves and the places before and after prefixes of them.

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::types::DataType;

/// The type of one clustering column and its direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComponentOrder {
    /// The column's type.
    pub data_type: DataType,
    /// Whether larger values come first.
    pub descending: bool,
}

/// How the rows of a table's partitions are ordered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ClusteringOrder {
    components: Vec<ComponentOrder>,
}

impl ClusteringOrder {
    /// The order by these columns, the first first.
    pub fn new(components: Vec<ComponentOrder>) -> Self {
        Self { components }
    }

    /// The columns.
    pub fn components(&self) -> &[ComponentOrder] {
        &self.components
    }

    fn compare(&self, at: usize, left: &[u8], right: &[u8]) -> Ordering {
        match self.components.get(at) {
            Some(component) => {
                let order = component.data_type.compare(left, right);
                if component.descending { order.reverse() } else { order }
            }
            None => left.cmp(right),
        }
    }
}

/// Where a position stands to the rows that begin with its values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Side {
    /// Before them all.
    Before,
    /// It is a row itself.
    Row,
    /// After them all.
    After,
}

/// A place among the rows of a partition. Positions of different tables must not be compared.
///
/// A row's position has a value for each clustering column. The start and the end of a slice or of a range
/// tombstone are places between rows, before or after those that begin with some values: so each bound is
/// inclusive or exclusive by where it stands, and two bounds can be compared as rows can.
#[derive(Clone)]
pub struct Position {
    order: Arc<ClusteringOrder>,
    values: Vec<Bytes>,
    side: Side,
}

impl Position {
    /// The row with these clustering values.
    pub fn row(order: Arc<ClusteringOrder>, values: Vec<Bytes>) -> Self {
        Self { order, values, side: Side::Row }
    }

    /// The place before every row that begins with these values; without values, before all rows.
    pub fn before(order: Arc<ClusteringOrder>, values: Vec<Bytes>) -> Self {
        Self { order, values, side: Side::Before }
    }

    /// The place after every row that begins with these values; without values, after all rows.
    pub fn after(order: Arc<ClusteringOrder>, values: Vec<Bytes>) -> Self {
        Self { order, values, side: Side::After }
    }

    /// The place before this row (or this place itself, if it is none).
    pub fn just_before(&self) -> Self {
        match self.side {
            Side::Row => Self { side: Side::Before, ..self.clone() },
            Side::Before | Side::After => self.clone(),
        }
    }

    /// The place after this row (or this place itself, if it is none).
    pub fn just_after(&self) -> Self {
        match self.side {
            Side::Row => Self { side: Side::After, ..self.clone() },
            Side::Before | Side::After => self.clone(),
        }
    }

    /// The clustering values, or the first of them.
    pub fn values(&self) -> &[Bytes] {
        &self.values
    }

    /// Where it stands to the rows that begin with its values.
    pub fn side(&self) -> Side {
        self.side
    }

    /// The order it belongs to.
    pub fn order(&self) -> &Arc<ClusteringOrder> {
        &self.order
    }
}

impl Ord for Position {
    fn cmp(&self, other: &Self) -> Ordering {
        for (at, (left, right)) in self.values.iter().zip(&other.values).enumerate() {
            let order = self.order.compare(at, left, right);
            if order.is_ne() {
                return order;
            }
        }
        // The shorter one sorts before or after everything that begins with it.
        match self.values.len().cmp(&other.values.len()) {
            Ordering::Equal => self.side.cmp(&other.side),
            Ordering::Less => match self.side {
                Side::Before => Ordering::Less,
                Side::Row | Side::After => Ordering::Greater,
            },
            Ordering::Greater => match other.side {
                Side::Before => Ordering::Greater,
                Side::Row | Side::After => Ordering::Less,
            },
        }
    }
}

impl PartialOrd for Position {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Position {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Position {}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.side {
            Side::Before => f.write_str("before ")?,
            Side::Row => {}
            Side::After => f.write_str("after ")?,
        }
        f.debug_list().entries(&self.values).finish()
    }
}
