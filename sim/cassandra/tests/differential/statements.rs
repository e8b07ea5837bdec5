//! Random statements.

use std::fmt;

use scylla::statement::batch::BatchType;
use scylla::value::CqlValue;

use crate::draw::Draw;
use crate::tables::{Column, Table, Type};

/// A value for a marker.
#[derive(Clone, Debug)]
pub enum Bound {
    Value(CqlValue),
    Null,
    Unset,
}

/// A statement, as text or with markers and their values.
#[derive(Clone)]
pub struct Statement {
    pub text: String,
    /// If there are any, it is prepared.
    pub values: Vec<Bound>,
    /// The timestamp that goes with the request.
    pub timestamp: Option<i64>,
}

/// What is done on both clusters before they are compared.
#[derive(Clone)]
pub enum Step {
    Write(Statement),
    /// A query, in pages if there is a size; after each page one of the writes is done.
    Read(Statement, Option<i32>, Vec<Statement>),
    Batch(BatchType, Option<i64>, Vec<Statement>),
    /// Writes with a short TTL, then a read of all of it before the TTL is over, and again after.
    Expire(Vec<Statement>, Statement),
}

impl fmt::Debug for Statement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if !self.values.is_empty() {
            write!(f, "  -- values {:?}", self.values)?;
        }
        if let Some(timestamp) = self.timestamp {
            write!(f, "  -- with timestamp {timestamp}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Write(statement) => statement.fmt(f),
            Step::Read(statement, pages, between) => {
                statement.fmt(f)?;
                if let Some(size) = pages {
                    write!(f, "  -- in pages of {size}, between them {between:?}")?;
                }
                Ok(())
            }
            Step::Batch(kind, timestamp, statements) => {
                write!(f, "{kind:?} batch with timestamp {timestamp:?} of {statements:?}")
            }
            Step::Expire(writes, read) => write!(f, "{writes:?}  -- and before and after their TTL {read:?}"),
        }
    }
}

/// Timestamps are few, so that they tie.
const TIMESTAMPS: usize = 12;

/// TTLs differ by this many seconds at least, so the remaining time identifies them.
pub const TTL_STEP: i32 = 1000;

/// The TTL of what is to expire, in seconds. Cassandra counts in whole ones: what is written lives for one second at
/// least, and for no more than two.
pub const SHORT_TTL: u64 = 2;

/// Makes one step from a seed.
pub fn step(seed: u64, keyspace: &str, tables: &[Table]) -> Step {
    let mut draw = Draw::new(seed);
    let table = draw.pick(tables).clone();
    let mut writer =
        Writer { draw, table: &table, keyspace, prepared: false, expiring: None, values: Vec::new() };
    match writer.draw.below(1000) {
        0..420 => Step::Write(writer.write(true)),
        420..480 => Step::Write(writer.conditional()),
        480..540 => Step::Write(writer.batch_as_text()),
        540..600 => {
            let kind = *writer.draw.pick(&[
                BatchType::Logged,
                BatchType::Unlogged,
                BatchType::Unlogged,
                BatchType::Counter,
            ]);
            let timestamp = if writer.draw.chance(50) { Some(writer.timestamp()) } else { None };
            let count = 1 + writer.draw.below(4);
            let statements = (0..count).map(|_| {
                let own = timestamp.is_none() || writer.draw.chance(30);
                if writer.draw.chance(4) { writer.conditional() } else { writer.write(own) }
            });
            let mut statements: Vec<_> = statements.collect();
            statements.iter_mut().for_each(|statement| statement.timestamp = None);
            Step::Batch(kind, timestamp, statements)
        }
        600..640 => {
            let read = writer.draw.chance(50);
            let statement = if read { writer.read() } else { writer.write(true) };
            let statement = writer.damaged(statement);
            if read { Step::Read(statement, None, Vec::new()) } else { Step::Write(statement) }
        }
        640..645 => writer.short_lived(),
        _ => {
            let pages = if writer.draw.chance(50) { Some(*writer.draw.pick(&[1, 2, 3, 5])) } else { None };
            let between = if pages.is_some() && writer.draw.chance(20) {
                (0..3).map(|_| writer.write(true)).collect()
            } else {
                Vec::new()
            };
            Step::Read(writer.read(), pages, between)
        }
    }
}

struct Writer<'a> {
    draw: Draw,
    table: &'a Table,
    keyspace: &'a str,
    /// Whether values become markers.
    prepared: bool,
    /// Whether what is written is to expire soon, and with which timestamp it is written.
    expiring: Option<i64>,
    values: Vec<Bound>,
}

const SLICES: [&str; 4] = ["<", "<=", ">", ">="];

impl<'a> Writer<'a> {
    fn begin(&mut self) {
        self.values.clear();
        self.prepared = self.draw.chance(40);
    }

    fn finish(&mut self, text: String) -> Statement {
        Statement { text, values: std::mem::take(&mut self.values), timestamp: None }
    }

    fn name(&self) -> String {
        format!("{}.{}", self.keyspace, self.table.name)
    }

    fn timestamp(&mut self) -> i64 {
        1 + self.draw.below(TIMESTAMPS) as i64
    }

    fn bind(&mut self, (text, value): (String, CqlValue)) -> String {
        if !self.prepared {
            return text;
        }
        self.values.push(Bound::Value(value));
        "?".to_owned()
    }

    fn of_type(&mut self, of: &Type) -> String {
        let value = self.draw.pick(&of.values()).clone();
        self.bind(value)
    }

    /// A value of a key.
    fn value(&mut self, column: &Column) -> String {
        self.of_type(&column.of)
    }

    /// A value that may be null or left out.
    fn nullable(&mut self, column: &Column) -> String {
        match self.draw.below(20) {
            0..3 if self.prepared => {
                self.values.push(Bound::Null);
                "?".to_owned()
            }
            3 if self.prepared => {
                self.values.push(Bound::Unset);
                "?".to_owned()
            }
            0..3 => "null".to_owned(),
            _ => self.value(column),
        }
    }

    fn limit(&mut self) -> String {
        let limit = 1 + self.draw.below(5) as i32;
        self.bind((limit.to_string(), CqlValue::Int(limit)))
    }

    /// USING, with its blank before it.
    fn using(&mut self, own_timestamp: bool, ttl: bool) -> String {
        if let Some(timestamp) = self.expiring {
            return format!(" USING TTL {SHORT_TTL} AND TIMESTAMP {timestamp}");
        }
        let mut parts = Vec::new();
        if own_timestamp && self.draw.chance(90) {
            let timestamp = self.timestamp();
            let timestamp = self.bind((timestamp.to_string(), CqlValue::BigInt(timestamp)));
            parts.push(format!("TIMESTAMP {timestamp}"));
        }
        if ttl && self.draw.chance(12) {
            let ttl = (1 + self.draw.below(1000) as i32) * TTL_STEP;
            let ttl = self.bind((ttl.to_string(), CqlValue::Int(ttl)));
            parts.push(format!("TTL {ttl}"));
        }
        if parts.is_empty() { String::new() } else { format!(" USING {}", parts.join(" AND ")) }
    }

    /// INSERT, UPDATE or DELETE.
    fn write(&mut self, own_timestamp: bool) -> Statement {
        self.begin();
        let kind = self.draw.below(100);
        let text = match kind {
            0..45 => self.insert(own_timestamp),
            45..65 => self.update(own_timestamp, ""),
            _ => self.delete(own_timestamp, ""),
        };
        let mut statement = self.finish(text);
        if !statement.text.contains("TIMESTAMP") && self.draw.chance(50) {
            statement.timestamp = Some(self.timestamp());
        }
        statement
    }

    fn insert(&mut self, own_timestamp: bool) -> String {
        let table = self.table;
        let only_static = !table.statics.is_empty() && self.draw.chance(15);
        let mut columns: Vec<(&Column, bool)> = table.partition.iter().map(|it| (it, true)).collect();
        if !only_static {
            columns.extend(table.clustering.iter().map(|(it, _)| (it, true)));
            columns.extend(table.regulars.iter().filter(|_| self.draw.chance(60)).map(|it| (it, false)));
        }
        if only_static || self.draw.chance(15) {
            columns.extend(table.statics.iter().map(|it| (it, false)));
        }
        let names: Vec<_> = columns.iter().map(|(column, _)| column.name.clone()).collect();
        let values: Vec<_> = columns
            .iter()
            .map(|(column, is_key)| if *is_key { self.value(column) } else { self.nullable(column) })
            .collect();
        let using = self.using(own_timestamp, true);
        format!("INSERT INTO {} ({}) VALUES ({}){using}", self.name(), names.join(", "), values.join(", "))
    }

    fn update(&mut self, own_timestamp: bool, condition: &str) -> String {
        let table = self.table;
        let only_static = !table.statics.is_empty() && self.draw.chance(20);
        let of = if only_static { &table.statics } else { &table.regulars };
        let using = self.using(own_timestamp, condition.is_empty());
        let first = self.draw.below(of.len());
        let mut sets = Vec::new();
        for (at, column) in of.iter().enumerate() {
            if at == first || self.draw.chance(40) {
                sets.push(format!("{} = {}", column.name, self.nullable(column)));
            }
        }
        let mut relations = self.keys(condition.is_empty());
        if !only_static {
            relations.extend(self.whole_rows(condition.is_empty()));
        }
        let relations = relations.join(" AND ");
        format!("UPDATE {}{using} SET {} WHERE {relations}{condition}", self.name(), sets.join(", "))
    }

    fn delete(&mut self, own_timestamp: bool, condition: &str) -> String {
        let table = self.table;
        let mut columns = String::new();
        let kind = if condition.is_empty() { self.draw.below(100) } else { 30 };
        let using = self.using(own_timestamp, false);
        let may_in = condition.is_empty();
        let relations = match kind {
            // A partition.
            0..15 => self.keys(may_in),
            // Static cells.
            15..25 if !table.statics.is_empty() => {
                columns = format!(" {}", self.draw.pick(&table.statics).name);
                self.keys(may_in)
            }
            // Cells.
            15..40 => {
                columns = format!(" {}", self.draw.pick(&table.regulars).name);
                let mut relations = self.keys(may_in);
                relations.extend(self.whole_rows(may_in));
                relations
            }
            // Rows.
            40..65 => {
                let mut relations = self.keys(may_in);
                relations.extend(self.whole_rows(may_in));
                relations
            }
            // Ranges.
            _ => {
                let mut relations = self.keys(may_in);
                relations.extend(self.range());
                relations
            }
        };
        format!("DELETE{columns} FROM {}{using} WHERE {}{condition}", self.name(), relations.join(" AND "))
    }

    /// Each with a timestamp of its own: which of two expiring values wins at a tie is a matter of the moment.
    fn short_lived(&mut self) -> Step {
        let first = self.draw.below(TIMESTAMPS);
        let count = 4 + self.draw.below(5);
        let mut writes = Vec::new();
        for at in 0..count {
            self.begin();
            self.prepared = false;
            self.expiring = Some(1 + ((first + at) % TIMESTAMPS) as i64);
            let text = if self.draw.chance(60) { self.insert(true) } else { self.update(true, "") };
            writes.push(self.finish(text));
        }
        let read = self.finish(format!("SELECT * FROM {}", self.name()));
        Step::Expire(writes, read)
    }

    /// `BEGIN BATCH ... APPLY BATCH`.
    fn batch_as_text(&mut self) -> Statement {
        let kind = *self.draw.pick(&["", "UNLOGGED ", "UNLOGGED "]);
        let timestamp = if self.draw.chance(50) {
            format!(" USING TIMESTAMP {}", self.timestamp())
        } else {
            String::new()
        };
        let count = 1 + self.draw.below(4);
        let own = timestamp.is_empty() || self.draw.chance(10);
        let prepared = self.draw.chance(40);
        let mut values = Vec::new();
        let mut texts = Vec::new();
        for _ in 0..count {
            self.begin();
            self.prepared = prepared;
            let kind = self.draw.below(100);
            texts.push(match kind {
                0..50 => self.insert(own),
                50..70 => self.update(own, ""),
                _ => self.delete(own, ""),
            });
            values.append(&mut self.values);
        }
        let text = format!("BEGIN {kind}BATCH{timestamp} {}; APPLY BATCH", texts.join("; "));
        Statement { text, values, timestamp: None }
    }

    /// A statement with IF.
    fn conditional(&mut self) -> Statement {
        self.begin();
        // The condition comes last and its values, too.
        self.prepared = false;
        let kind = self.draw.below(4);
        let text = match kind {
            0 => {
                let insert = self.insert(false);
                match insert.split_once(" USING") {
                    Some((insert, using)) => format!("{insert} IF NOT EXISTS USING{using}"),
                    None => format!("{insert} IF NOT EXISTS"),
                }
            }
            1 => {
                if self.draw.chance(50) {
                    self.update(false, " IF EXISTS")
                } else {
                    self.delete(false, " IF EXISTS")
                }
            }
            _ => {
                let table = self.table;
                let statics = table.statics.iter().filter(|_| self.draw.chance(30));
                let mut columns: Vec<&Column> = statics.collect();
                columns.push(self.draw.pick(&table.regulars));
                let tests: Vec<_> = columns
                    .into_iter()
                    .map(|column| match self.draw.below(8) {
                        0 => format!("{} = null", column.name),
                        1 => format!("{} IN ({}, {})", column.name, self.value(column), self.value(column)),
                        2 => format!("{} != {}", column.name, self.value(column)),
                        3 => {
                            let sign = *self.draw.pick(&SLICES);
                            format!("{} {sign} {}", column.name, self.value(column))
                        }
                        _ => format!("{} = {}", column.name, self.value(column)),
                    })
                    .collect();
                let condition = format!(" IF {}", tests.join(" AND "));
                if kind == 2 { self.update(false, &condition) } else { self.delete(false, &condition) }
            }
        };
        self.finish(text)
    }

    /// The partition key, whole.
    fn keys(&mut self, may_in: bool) -> Vec<String> {
        let table = self.table;
        table.partition.iter().map(|column| self.equal_or_in(column, may_in)).collect()
    }

    fn equal_or_in(&mut self, column: &Column, may_in: bool) -> String {
        if !may_in || self.draw.chance(80) {
            return format!("{} = {}", column.name, self.value(column));
        }
        let count = 1 + self.draw.below(3);
        if self.prepared && self.draw.chance(50) {
            let values = column.of.values();
            let list = (0..count).map(|_| self.draw.pick(&values).1.clone()).collect();
            self.values.push(Bound::Value(CqlValue::List(list)));
            return format!("{} IN ?", column.name);
        }
        let values: Vec<_> = (0..count).map(|_| self.value(column)).collect();
        format!("{} IN ({})", column.name, values.join(", "))
    }

    /// The clustering key, whole.
    fn whole_rows(&mut self, may_in: bool) -> Vec<String> {
        let table = self.table;
        if may_in && table.clustering.len() > 1 && self.draw.chance(15) {
            return vec![self.tuple(0, table.clustering.len(), true)];
        }
        table.clustering.iter().map(|(column, _)| self.equal_or_in(column, may_in)).collect()
    }

    /// `(a, b) = (1, 2)`, or IN, or a slice, of `count` columns from `first` on.
    fn tuple(&mut self, first: usize, count: usize, whole: bool) -> String {
        let table = self.table;
        let columns: Vec<&Column> =
            table.clustering[first..first + count].iter().map(|(column, _)| column).collect();
        let names: Vec<_> = columns.iter().map(|column| column.name.clone()).collect();
        let names = names.join(", ");
        let one = |writer: &mut Self| {
            if writer.prepared && writer.draw.chance(30) {
                let values = columns.iter().map(|column| {
                    let values = column.of.values();
                    Some(writer.draw.pick(&values).1.clone())
                });
                let tuple = CqlValue::Tuple(values.collect());
                writer.values.push(Bound::Value(tuple));
                return "?".to_owned();
            }
            let values: Vec<_> = columns.iter().map(|column| writer.value(column)).collect();
            format!("({})", values.join(", "))
        };
        if self.draw.chance(if whole { 50 } else { 15 }) {
            let count = 1 + self.draw.below(3);
            if self.prepared && self.draw.chance(30) {
                let row = |writer: &mut Self| {
                    let values = columns.iter().map(|column| {
                        let values = column.of.values();
                        Some(writer.draw.pick(&values).1.clone())
                    });
                    CqlValue::Tuple(values.collect())
                };
                let list = (0..count).map(|_| row(self)).collect();
                self.values.push(Bound::Value(CqlValue::List(list)));
                return format!("({names}) IN ?");
            }
            let all: Vec<_> = (0..count).map(|_| one(self)).collect();
            return format!("({names}) IN ({})", all.join(", "));
        }
        let sign = if whole || self.draw.chance(15) { "=" } else { *self.draw.pick(&SLICES) };
        format!("({names}) {sign} {}", one(self))
    }

    /// Some first clustering columns, and a slice of the next.
    fn range(&mut self) -> Vec<String> {
        let table = self.table;
        let mut relations = Vec::new();
        let count = table.clustering.len();
        let whole = if count == 0 { 0 } else { self.draw.below(count) };
        for (column, _) in &table.clustering[..whole] {
            relations.push(self.equal_or_in(column, true));
        }
        if whole == count {
            return relations;
        }
        let left = count - whole;
        if left > 1 && self.draw.chance(40) {
            let width = 1 + self.draw.below(left);
            relations.push(self.tuple(whole, width, false));
            if self.draw.chance(40) {
                let width = 1 + self.draw.below(left);
                relations.push(self.tuple(whole, width, false));
            }
            return relations;
        }
        let column = &table.clustering[whole].0;
        for signs in [["<", "<="], [">", ">="]] {
            if self.draw.chance(60) {
                let sign = *self.draw.pick(&signs);
                relations.push(format!("{} {sign} {}", column.name, self.value(column)));
            }
        }
        relations
    }

    /// SELECT
    fn read(&mut self) -> Statement {
        self.begin();
        let table = self.table;
        let distinct = self.draw.chance(8);
        let columns = table.columns();
        let key = table.partition.iter().map(|it| it.name.clone()).collect::<Vec<_>>().join(", ");
        let shown = if distinct {
            let statics =
                table.statics.iter().filter(|_| self.draw.chance(50)).map(|it| format!(", {}", it.name));
            format!("DISTINCT {key}{}", statics.collect::<String>())
        } else {
            match self.draw.below(10) {
                0..3 => "*".to_owned(),
                3 => {
                    // Cassandra calls the least of these a LegacyTimeUUIDType, a name that the driver does not know.
                    let known: Vec<_> =
                        columns.iter().filter(|column| column.of != Type::Native("timeuuid")).collect();
                    let column = self.draw.pick(&known).name.clone();
                    self.draw
                        .pick(&[
                            "count(*)",
                            "count({})",
                            "min({}), max({})",
                            "sum({})",
                            "avg({})",
                            "count({}), max({})",
                        ])
                        .replace("{}", &column)
                }
                4 => format!("token({key}), {}", self.draw.pick(&columns).name),
                _ => {
                    let mut names = Vec::new();
                    for _ in 0..=self.draw.below(4) {
                        let name = self.draw.pick(&columns).name.clone();
                        names.push(match self.draw.below(6) {
                            0 => format!("writetime({name})"),
                            1 => format!("ttl({name})"),
                            _ => name,
                        });
                    }
                    names.join(", ")
                }
            }
        };
        let mut relations = Vec::new();
        let mut filtering = false;
        match self.draw.below(100) {
            0..65 => {
                relations.extend(self.keys(true));
                if !distinct || self.draw.chance(5) {
                    match self.draw.below(10) {
                        0..3 => {}
                        3..5 => relations.extend(self.whole_rows(true)),
                        _ => relations.extend(self.range()),
                    }
                }
            }
            65..75 => {
                let values: Vec<_> = table.partition.iter().map(|column| self.value(column)).collect();
                let sign = *self.draw.pick(&[">", ">=", "<", "<=", "="]);
                relations.push(format!("token({key}) {sign} token({})", values.join(", ")));
            }
            75..78 => relations.extend(self.range()),
            _ => {}
        }
        if self.draw.chance(10) {
            let column = *self.draw.pick(&columns);
            let sign = *self.draw.pick(&["=", ">", "<=", "="]);
            relations.push(format!("{} {sign} {}", column.name, self.value(column)));
            filtering = self.draw.chance(85);
        }
        let mut text = format!("SELECT {shown} FROM {}", self.name());
        if !relations.is_empty() {
            text.push_str(&format!(" WHERE {}", relations.join(" AND ")));
        }
        if !table.clustering.is_empty() && self.draw.chance(25) {
            let reverse = self.draw.chance(60);
            let count = 1 + self.draw.below(table.clustering.len());
            let mixed = self.draw.chance(5);
            let orders = table.clustering[..count].iter().enumerate().map(|(at, (column, down))| {
                let down = *down ^ reverse ^ (mixed && at == 1);
                format!("{} {}", column.name, if down { "DESC" } else { "ASC" })
            });
            text.push_str(&format!(" ORDER BY {}", orders.collect::<Vec<_>>().join(", ")));
        }
        if self.draw.chance(20) {
            text.push_str(&format!(" PER PARTITION LIMIT {}", self.limit()));
        }
        if self.draw.chance(30) {
            text.push_str(&format!(" LIMIT {}", self.limit()));
        }
        if filtering || self.draw.chance(5) {
            text.push_str(" ALLOW FILTERING");
        }
        self.finish(text)
    }

    /// The statement with something wrong in it, maybe.
    fn damaged(&mut self, statement: Statement) -> Statement {
        let mut tokens: Vec<String> = statement.text.split(' ').map(str::to_owned).collect();
        let at = self.draw.below(tokens.len());
        match self.draw.below(6) {
            0 => {
                tokens.remove(at);
            }
            1 => tokens.insert(at, tokens[at].clone()),
            2 => {
                let with = self.draw.below(tokens.len());
                tokens.swap(at, with);
            }
            3 => {
                tokens[at] =
                    (*self.draw.pick(&["nothing", "'text'", "17", "0xff", "null", "?", "(", "=", "1.5"]))
                        .to_owned()
            }
            4 => {
                let columns = self.table.columns();
                tokens[at] = self.draw.pick(&columns).name.clone();
            }
            _ => {
                tokens[at].push(*self.draw.pick(&['x', ')', ',', '\'', '0']));
            }
        }
        let text = tokens.join(" ");
        // A marker more or less is for the driver to find, unless the statement goes as text.
        let values =
            if text.matches('?').count() == statement.values.len() { statement.values } else { Vec::new() };
        Statement { text, values, timestamp: statement.timestamp }
    }
}
