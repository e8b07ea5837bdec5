//! INSERT, UPDATE, DELETE and batches of them.

use bytes::Bytes;

use super::condition::{BoundConditions, Conditions};
use super::restriction::{Restrictions, SharedTable, Usage, validate_keys};
use super::term::{Context, Receiver, Term, shown_type};
use super::{Markers, TableLookup, column};
use crate::cql::ast::{self, Assignment, Attributes, Modification, Operator, Relation, TableName};
use crate::cql::value::whole;
use crate::protocol::{BatchKind, BoundValue, ServerError};
use crate::schema::{Column, ColumnKind, ColumnName};
use crate::storage::{
    Cell, ClusteringFilter, DecoratedKey, Deletion, Liveness, Mutation, Partition, PartitionRange,
    RangeTombstone, Row, Seconds, Slice, Timestamp,
};
use crate::types::DataType;

/// The longest TTL: 20 years, in seconds.
const MAX_TTL: i64 = 630_720_000;

/// The last second at which a cell may expire while files are as in 4.x (`ExpirationDateOverflowHandling`).
const MAX_EXPIRY: i64 = 2_147_483_646;

/// Which kind of statement it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Insert,
    Update,
    Delete,
}

/// A statement that writes, and fits its table.
#[derive(Debug)]
pub struct ModificationPlan {
    table: SharedTable,
    kind: Kind,
    restrictions: Restrictions,
    sets: Vec<(Column, Term)>,
    deletes: Vec<Column>,
    timestamp: Option<Term>,
    ttl: Option<Term>,
    conditions: Conditions,
    only_static: bool,
}

/// A batch as text.
#[derive(Debug)]
pub struct BatchPlan {
    /// Its kind.
    pub kind: BatchKind,
    /// Its statements.
    pub statements: Vec<ModificationPlan>,
    timestamp: Option<Term>,
}

/// When a write is done: the timestamp of its cells and the clock of the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Timestamp of writes without one.
    pub timestamp: Timestamp,
    /// The clock, for expiry and tombstones.
    pub now: Seconds,
}

/// Where in a partition a statement writes.
#[derive(Clone, Debug)]
enum Target {
    /// All of it.
    Partition,
    /// Its static columns.
    Static,
    /// The rows with these clustering values.
    Rows(Vec<Vec<Bytes>>),
    /// All rows in these slices.
    Slices(Vec<Slice>),
}

/// What a statement does to one partition, for some values of its markers.
#[derive(Clone, Debug)]
pub struct RowWrite {
    /// The table.
    pub table: SharedTable,
    /// The partition.
    pub key: DecoratedKey,
    target: Target,
    statics: Vec<(ColumnName, Option<Bytes>)>,
    regulars: Vec<(ColumnName, Option<Bytes>)>,
    is_insert: bool,
    is_deletion: bool,
    timestamp: Option<Timestamp>,
    ttl: u32,
}

impl ModificationPlan {
    pub(super) fn new(
        statement: Modification,
        tables: &dyn TableLookup,
        keyspace: Option<&str>,
        markers: &mut Markers,
    ) -> Result<ModificationPlan, ServerError> {
        let find = |name: &TableName, markers: &mut Markers| {
            let table = tables.find(keyspace, name)?;
            markers.of(SharedTable::clone(&table));
            Ok::<_, ServerError>(table)
        };
        let plan = match statement {
            Modification::Insert(insert) => {
                let table = find(&insert.table, markers)?;
                Self::insert(insert, table, markers)?
            }
            Modification::Update(update) => {
                let table = find(&update.table, markers)?;
                Self::update(update, table, markers)?
            }
            Modification::Delete(delete) => {
                let table = find(&delete.table, markers)?;
                Self::delete(delete, table, markers)?
            }
        };
        if plan.conditions.is_conditional() {
            if plan.timestamp.is_some() {
                return Err(own_timestamp());
            }
            if plan.restrictions.keys.has_in() {
                return Err(ServerError::invalid(
                    "IN on the partition key is not supported with conditional updates",
                ));
            }
            if plan.restrictions.has_clustering_in {
                return Err(ServerError::invalid(
                    "IN on the clustering key columns is not supported with conditional updates",
                ));
            }
        }
        Ok(plan)
    }

    fn insert(
        insert: ast::Insert,
        table: SharedTable,
        markers: &mut Markers,
    ) -> Result<ModificationPlan, ServerError> {
        let (timestamp, ttl, conditions) = preface(&insert.attributes, &insert.condition, &table, markers)?;
        if insert.columns.len() != insert.values.len() {
            return Err(ServerError::invalid("Unmatched column names/values"));
        }
        let mut names = insert.columns.clone();
        names.sort();
        names.dedup();
        if names.len() != insert.columns.len() {
            for name in &insert.columns {
                column(&table, name)?;
            }
            return Err(ServerError::invalid("The column names contains duplicates"));
        }
        let mut relations = Vec::new();
        let mut sets = Vec::new();
        let mut has_clustering = false;
        for (name, term) in insert.columns.iter().zip(insert.values) {
            let column = column(&table, name)?;
            match column.kind {
                ColumnKind::PartitionKey(_) | ColumnKind::Clustering(..) => {
                    has_clustering |= matches!(column.kind, ColumnKind::Clustering(..));
                    relations.push(Relation::Single(name.clone(), Operator::Equal, term));
                }
                ColumnKind::Static | ColumnKind::Regular => {
                    let receiver = Receiver { name, data_type: &column.data_type };
                    sets.push((column.clone(), Term::new(&term, receiver, markers)?));
                }
            }
        }
        // Clustering columns that are missing are reported before those that come after a gap.
        let only_static = !has_clustering
            && !sets.is_empty()
            && sets.iter().all(|(column, _)| column.kind == ColumnKind::Static);
        missing_key(&table, &relations, only_static)?;
        let restrictions = Restrictions::new(&relations, &table, Usage::Update, markers)?;
        Ok(ModificationPlan {
            table,
            kind: Kind::Insert,
            restrictions,
            sets,
            deletes: Vec::new(),
            timestamp,
            ttl,
            conditions,
            only_static,
        })
    }

    fn update(
        update: ast::Update,
        table: SharedTable,
        markers: &mut Markers,
    ) -> Result<ModificationPlan, ServerError> {
        for (at, (name, _)) in update.assignments.iter().enumerate() {
            if update.assignments[..at].iter().any(|(known, _)| known == name) {
                return Err(ServerError::Syntax(format!("Multiple incompatible setting of column {name}")));
            }
        }
        let (timestamp, ttl, conditions) = preface(&update.attributes, &update.condition, &table, markers)?;
        let mut sets = Vec::new();
        for (name, assignment) in &update.assignments {
            let column = column(&table, name)?;
            if matches!(column.kind, ColumnKind::PartitionKey(_) | ColumnKind::Clustering(..)) {
                return Err(ServerError::invalid(format!("PRIMARY KEY part {name} found in SET part")));
            }
            match assignment {
                Assignment::Set(term) => {
                    let receiver = Receiver { name, data_type: &column.data_type };
                    sets.push((column.clone(), Term::new(term, receiver, markers)?));
                }
                Assignment::Other(sign) => {
                    let of = match column.data_type {
                        DataType::List(_) | DataType::Set(_) | DataType::Map(..) => "frozen collection",
                        _ => "non counter",
                    };
                    return Err(ServerError::invalid(format!(
                        "Invalid operation ({sign}) for {of} column {name}"
                    )));
                }
            }
        }
        let restrictions = Restrictions::new(&update.relations, &table, Usage::Update, markers)?;
        let only_static = sets.iter().all(|(column, _)| column.kind == ColumnKind::Static);
        let plan = ModificationPlan {
            table,
            kind: Kind::Update,
            restrictions,
            sets,
            deletes: Vec::new(),
            timestamp,
            ttl,
            conditions,
            only_static,
        };
        let plan = plan.with_statics_alone()?;
        if !plan.only_static {
            if plan.restrictions.has_slice {
                return Err(ServerError::invalid(
                    "Slice restrictions are not supported on the clustering columns in UPDATE statements",
                ));
            }
            plan.whole_rows()?;
        }
        Ok(plan)
    }

    fn delete(
        delete: ast::Delete,
        table: SharedTable,
        markers: &mut Markers,
    ) -> Result<ModificationPlan, ServerError> {
        let (timestamp, ttl, conditions) = preface(&delete.attributes, &delete.condition, &table, markers)?;
        let mut deletes = Vec::new();
        for name in &delete.columns {
            let column = column(&table, name)?;
            if matches!(column.kind, ColumnKind::PartitionKey(_) | ColumnKind::Clustering(..)) {
                return Err(ServerError::invalid(format!(
                    "Invalid identifier {name} for deletion (should not be a PRIMARY KEY part)"
                )));
            }
            deletes.push(column.clone());
        }
        if let Some(name) = delete.elements.first() {
            let column = column(&table, name)?;
            return Err(ServerError::invalid(match column.data_type {
                DataType::List(_) | DataType::Set(_) | DataType::Map(..) => {
                    format!("Invalid deletion operation for frozen collection column {name}")
                }
                _ => format!("Invalid deletion operation for non collection column {name}"),
            }));
        }
        let restrictions = Restrictions::new(&delete.relations, &table, Usage::Delete, markers)?;
        let only_static =
            !deletes.is_empty() && deletes.iter().all(|column| column.kind == ColumnKind::Static);
        let plan = ModificationPlan {
            table,
            kind: Kind::Delete,
            restrictions,
            sets: Vec::new(),
            deletes,
            timestamp,
            ttl,
            conditions,
            only_static,
        };
        let plan = plan.with_statics_alone()?;
        let is_whole = plan.restrictions.whole_columns == plan.table.clustering.components().len()
            && !plan.restrictions.has_slice;
        if plan.conditions.is_conditional() && !is_whole && !plan.only_static {
            return Err(ServerError::invalid(
                "DELETE statements must restrict all PRIMARY KEY columns with equality relations in order to delete \
                 non static columns",
            ));
        }
        if !plan.deletes.is_empty() && !plan.only_static && !is_whole {
            return Err(ServerError::invalid("Range deletions are not supported for specific columns"));
        }
        Ok(plan)
    }

    /// An UPDATE or a DELETE, where it is settled whether it is about static columns alone: a condition on a row needs
    /// the row, whatever is written.
    fn with_statics_alone(mut self) -> Result<ModificationPlan, ServerError> {
        self.only_static = self.only_static && self.conditions.is_static();
        if self.only_static && self.restrictions.has_clustering {
            let name = match self.kind {
                Kind::Delete => "DELETE",
                Kind::Insert | Kind::Update => "UPDATE",
            };
            return Err(ServerError::invalid(format!(
                "Invalid restrictions on clustering columns since the {name} statement modifies only static columns"
            )));
        }
        Ok(self)
    }

    /// Checks that the whole clustering key is given.
    fn whole_rows(&self) -> Result<(), ServerError> {
        let clustering = self.table.clustering_columns();
        if self.restrictions.whole_columns < clustering.len() {
            let missing: Vec<_> = clustering[self.restrictions.whole_columns..]
                .iter()
                .map(|column| column.name.to_string())
                .collect();
            return Err(ServerError::invalid(format!(
                "Some clustering keys are missing: {}",
                missing.join(", ")
            )));
        }
        Ok(())
    }

    /// The table that it writes to.
    pub fn table(&self) -> &SharedTable {
        &self.table
    }

    /// Whether it writes static columns.
    pub fn writes_statics(&self) -> bool {
        let mut columns = self.sets.iter().map(|(column, _)| column).chain(&self.deletes);
        columns.any(|column| column.kind == ColumnKind::Static)
    }

    /// Whether it names rows, and not only a partition.
    pub fn is_of_rows(&self) -> bool {
        self.table.clustering.components().is_empty() || self.restrictions.has_clustering
    }

    /// What it depends on.
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// Whether it names its partitions with IN.
    pub fn has_key_in(&self) -> bool {
        self.restrictions.keys.has_in()
    }

    /// Whether it names its rows with IN.
    pub fn has_clustering_in(&self) -> bool {
        self.restrictions.has_clustering_in
    }

    /// Whether it is a DELETE.
    pub fn is_deletion(&self) -> bool {
        matches!(self.kind, Kind::Delete)
    }

    /// Whether it has a timestamp of its own.
    pub fn has_timestamp(&self) -> bool {
        self.timestamp.is_some()
    }

    /// The keys of the partitions that it writes to, for these values of markers.
    ///
    /// # Errors
    /// If they are no keys.
    pub fn bind_keys(&self, context: &Context<'_>) -> Result<Vec<DecoratedKey>, ServerError> {
        let ranges = self.restrictions.bind_keys(&self.table, context)?;
        validate_keys(&ranges)?;
        let keys = ranges.into_iter().filter_map(|range| match range {
            PartitionRange::Key(key) => Some(key),
            PartitionRange::Tokens { .. } => None,
        });
        Ok(keys.collect())
    }

    /// What it writes to these partitions, for these values of markers: an element for each.
    ///
    /// # Errors
    /// If a value is not allowed at its position.
    pub fn bind(&self, keys: Vec<DecoratedKey>, context: &Context<'_>) -> Result<Vec<RowWrite>, ServerError> {
        let rows = self.restrictions.bind_rows(&self.table, context)?;
        let timestamp = bind_timestamp(self.timestamp.as_ref(), context)?;
        let ttl = self.bind_ttl(context)?;
        let clustering = self.table.clustering.components().len();
        let target = if self.only_static {
            Target::Static
        } else if self.restrictions.whole_columns == clustering && !self.restrictions.has_slice {
            Target::Rows(rows.prefixes)
        } else {
            match rows.filter {
                ClusteringFilter::Slices(slices) => Target::Slices(slices),
                ClusteringFilter::All | ClusteringFilter::Names(_) => Target::Partition,
            }
        };
        if let Target::Rows(rows) = &target {
            let length = |values: &Vec<Bytes>| values.iter().map(Bytes::len).sum::<usize>();
            if let Some(length) = rows.iter().map(length).find(|length| *length > usize::from(u16::MAX)) {
                return Err(ServerError::invalid(format!(
                    "The sum of all clustering columns is too long ({length} > {})",
                    u16::MAX
                )));
            }
        }
        // A deletion of rows of a table without clustering columns is one of partitions.
        let is_deletion = self.kind == Kind::Delete && self.deletes.is_empty();
        let target = match target {
            Target::Rows(_) if is_deletion && clustering == 0 => Target::Partition,
            other => other,
        };
        let mut statics = Vec::new();
        let mut regulars = Vec::new();
        let mut set = |column: &Column, value: Option<Bytes>| {
            let cells = if column.kind == ColumnKind::Static { &mut statics } else { &mut regulars };
            cells.push((column.name.clone(), value));
        };
        for (column, term) in &self.sets {
            match term.bind(context)? {
                BoundValue::Value(bytes) => set(column, Some(bytes)),
                BoundValue::Null => set(column, None),
                BoundValue::Unset => {}
            }
        }
        for column in &self.deletes {
            set(column, None);
        }
        let writes = keys.into_iter().map(|key| RowWrite {
            table: SharedTable::clone(&self.table),
            key,
            target: target.clone(),
            statics: statics.clone(),
            regulars: regulars.clone(),
            is_insert: self.kind == Kind::Insert,
            is_deletion,
            timestamp,
            ttl,
        });
        Ok(writes.collect())
    }

    fn bind_ttl(&self, context: &Context<'_>) -> Result<u32, ServerError> {
        let default = self.table.options.default_time_to_live;
        let Some(term) = &self.ttl else { return Ok(default) };
        let ttl = match term.bind(context)? {
            BoundValue::Unset => return Ok(default),
            BoundValue::Null => return Ok(0),
            BoundValue::Value(bytes) => {
                whole(&bytes).ok_or_else(|| ServerError::invalid("Invalid ttl value"))?
            }
        };
        if ttl < 0 {
            return Err(ServerError::invalid(format!("A TTL must be greater or equal to 0, but was {ttl}")));
        }
        if ttl > MAX_TTL {
            return Err(ServerError::invalid(format!(
                "ttl is too large. requested ({ttl}) maximum ({MAX_TTL})"
            )));
        }
        if context.micros.div_euclid(1_000_000).saturating_add(ttl) > MAX_EXPIRY {
            return Err(ServerError::invalid(format!(
                "Request on table {}.{} with ttl of {ttl} seconds exceeds maximum supported expiration date of \
                 2038-01-19T03:14:06+00:00. In order to avoid this use a lower TTL or change the expiration date \
                 overflow policy.",
                self.table.keyspace, self.table.name
            )));
        }
        Ok(ttl as u32)
    }

    /// The conditions, for these values of markers.
    ///
    /// # Errors
    /// If a value is none of its column's type.
    pub fn bind_conditions(&self, context: &Context<'_>) -> Result<BoundConditions, ServerError> {
        self.conditions.bind(context)
    }
}

impl BatchPlan {
    pub(super) fn new(
        batch: ast::Batch,
        tables: &dyn TableLookup,
        keyspace: Option<&str>,
        markers: &mut Markers,
    ) -> Result<BatchPlan, ServerError> {
        if batch.attributes.ttl.is_some() {
            return Err(ServerError::invalid("Global TTL on the BATCH statement is not supported."));
        }
        let timestamp = attributes(&batch.attributes, markers)?.0;
        let statements = batch
            .statements
            .into_iter()
            .map(|statement| ModificationPlan::new(statement, tables, keyspace, markers))
            .collect::<Result<Vec<_>, _>>()?;
        if timestamp.is_some() && statements.iter().any(ModificationPlan::has_timestamp) {
            return Err(ServerError::invalid(
                "Timestamp must be set either on BATCH or individual statements",
            ));
        }
        Ok(BatchPlan { kind: batch.kind, statements, timestamp })
    }

    /// Whether it has a timestamp of its own.
    pub fn has_timestamp(&self) -> bool {
        self.timestamp.is_some()
    }

    /// Its timestamp, for these values of markers.
    ///
    /// # Errors
    /// If the value is none.
    pub fn bind_timestamp(&self, context: &Context<'_>) -> Result<Option<Timestamp>, ServerError> {
        bind_timestamp(self.timestamp.as_ref(), context)
    }
}

/// The checks that come first for a statement (`ModificationStatement.Parsed.prepare`): timestamp, TTL and
/// conditions.
fn preface(
    written: &Attributes,
    condition: &ast::Condition,
    table: &SharedTable,
    markers: &mut Markers,
) -> Result<(Option<Term>, Option<Term>, Conditions), ServerError> {
    let (timestamp, ttl) = attributes(written, markers)?;
    if timestamp.is_some() && matches!(condition, ast::Condition::Columns(_)) {
        return Err(own_timestamp());
    }
    Ok((timestamp, ttl, Conditions::new(condition, table, markers)?))
}

fn own_timestamp() -> ServerError {
    ServerError::invalid("Cannot provide custom timestamp for conditional updates")
}

/// `USING TIMESTAMP` and `TTL`.
fn attributes(
    written: &Attributes,
    markers: &mut Markers,
) -> Result<(Option<Term>, Option<Term>), ServerError> {
    let mut term = |term: &Option<ast::Term>, name: &str, data_type: &DataType| match term {
        Some(term) => Term::new(term, Receiver { name, data_type }, markers).map(Some),
        None => Ok(None),
    };
    let timestamp = term(&written.timestamp, "[timestamp]", &DataType::BigInt)?;
    let ttl = term(&written.ttl, "[ttl]", &DataType::Int)?;
    Ok((timestamp, ttl))
}

fn bind_timestamp(term: Option<&Term>, context: &Context<'_>) -> Result<Option<Timestamp>, ServerError> {
    let Some(term) = term else { return Ok(None) };
    match term.bind(context)? {
        BoundValue::Unset => Ok(None),
        BoundValue::Null => Err(ServerError::invalid("Invalid null value of timestamp")),
        BoundValue::Value(bytes) => match whole(&bytes) {
            Some(i64::MIN) => Err(ServerError::invalid(format!(
                "Out of bound timestamp, must be in [{}, {}]",
                i64::MIN + 1,
                i64::MAX
            ))),
            Some(timestamp) => Ok(Some(timestamp)),
            None => Err(ServerError::invalid(format!(
                "Invalid timestamp value of type {}",
                shown_type(&DataType::BigInt)
            ))),
        },
    }
}

/// Checks that an INSERT names all columns of the key.
fn missing_key(table: &SharedTable, relations: &[Relation], only_static: bool) -> Result<(), ServerError> {
    let given = |column: &Column| {
        relations
            .iter()
            .any(|relation| matches!(relation, Relation::Single(name, ..) if **name == *column.name))
    };
    let missing = |columns: Vec<&Column>| -> Vec<String> {
        columns.into_iter().filter(|column| !given(column)).map(|column| column.name.to_string()).collect()
    };
    let partition = missing(table.partition_key_columns());
    if !partition.is_empty() {
        return Err(ServerError::invalid(format!(
            "Some partition key parts are missing: {}",
            partition.join(", ")
        )));
    }
    let clustering = missing(table.clustering_columns());
    if !clustering.is_empty() && !only_static {
        return Err(ServerError::invalid(format!(
            "Some clustering keys are missing: {}",
            clustering.join(", ")
        )));
    }
    Ok(())
}

impl RowWrite {
    /// Whether it has a timestamp of its own.
    pub fn has_timestamp(&self) -> bool {
        self.timestamp.is_some()
    }

    /// The clustering values of the one row that it is about; `None` if it is about static columns.
    pub fn row(&self) -> Option<&[Bytes]> {
        match &self.target {
            Target::Rows(rows) => rows.first().map(Vec::as_slice),
            // The only row of its partition.
            Target::Partition if self.table.clustering.components().is_empty() => Some(&[]),
            Target::Partition | Target::Static | Target::Slices(_) => None,
        }
    }

    /// The mutation.
    pub fn mutation(&self, stamp: Stamp) -> Mutation {
        let timestamp = self.timestamp.unwrap_or(stamp.timestamp);
        let deletion = Deletion { timestamp, local_deletion_time: stamp.now };
        let cells = |cells: &[(ColumnName, Option<Bytes>)]| {
            let cell = |value: &Option<Bytes>| match value {
                Some(value) => Cell::expiring(timestamp, value.clone(), self.ttl, stamp.now),
                None => Cell::tombstone(timestamp, stamp.now),
            };
            cells.iter().map(|(name, value)| (name.clone(), cell(value))).collect()
        };
        let mut partition = Partition::default();
        partition.static_row.cells = cells(&self.statics);
        match &self.target {
            Target::Partition => partition.deletion = Some(deletion),
            Target::Static => {}
            Target::Rows(rows) => {
                for values in rows {
                    let mut row = Row { cells: cells(&self.regulars), ..Row::default() };
                    if self.is_insert {
                        row.liveness = Some(Liveness::new(timestamp, self.ttl, stamp.now));
                    }
                    if self.is_deletion {
                        row.deletion = Some(deletion);
                    }
                    if row.liveness.is_some() || row.deletion.is_some() || !row.cells.is_empty() {
                        partition.rows.insert(self.table.row(values.clone()), row);
                    }
                }
            }
            Target::Slices(slices) => {
                for slice in slices {
                    let range =
                        RangeTombstone { start: slice.start.clone(), end: slice.end.clone(), deletion };
                    partition.ranges.insert(slice.start.clone(), range);
                }
            }
        }
        Mutation::new(self.table.keyspace.clone(), self.key.clone(), self.table.id, partition)
    }
}
