//! Statements as text, from their syntax tree: the inverse of the parser, as far as the tree has all of the text.

use simulated_cassandra::cql::ast::{
    AlterTableChange, Assignment, Attributes, Batch, ColumnDefinition, Condition, CreateTable, Delete,
    Describe, InValues, Insert, LiteralKind, Modification, Property, Relation, Select, Selector, Statement,
    TableName, Term, TypeName, Update,
};
use simulated_cassandra::cql::{Parsed, needs_quotes, type_name};
use simulated_cassandra::protocol::BatchKind;

/// How names are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Names {
    /// All of them in quotes.
    Quoted,
    /// In quotes where they need them.
    Plain,
}

/// A statement as text; `None` if its tree does not have all of it.
pub(crate) fn printed(parsed: &Parsed, names: Names) -> Option<String> {
    let mut printer = Printer { names, marker_names: &parsed.markers, markers: 0 };
    let text = printer.statement(&parsed.statement)?;
    // Markers that the tree leaves out have numbers, too.
    (printer.markers == parsed.markers.len()).then_some(text)
}

/// A constant as text.
pub(crate) fn literal(kind: LiteralKind, text: &str) -> String {
    match kind {
        LiteralKind::String => format!("'{}'", text.replace('\'', "''")),
        _ => text.to_owned(),
    }
}

struct Printer<'a> {
    names: Names,
    marker_names: &'a [Option<String>],
    /// How many markers were printed.
    markers: usize,
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Texts in order, separated.
fn joined<T>(items: &[T], separator: &str, print: impl FnMut(&T) -> Option<String>) -> Option<String> {
    Some(items.iter().map(print).collect::<Option<Vec<_>>>()?.join(separator))
}

impl Printer<'_> {
    fn name(&self, name: &str) -> String {
        match self.names {
            Names::Plain if !needs_quotes(name) => name.to_owned(),
            _ => quoted(name),
        }
    }

    fn name_list(&self, names: &[String]) -> String {
        names.iter().map(|name| self.name(name)).collect::<Vec<_>>().join(", ")
    }

    fn table(&self, table: &TableName) -> String {
        match &table.keyspace {
            Some(keyspace) => format!("{}.{}", self.name(keyspace), self.name(&table.name)),
            None => self.name(&table.name),
        }
    }

    /// Markers are numbered in the order of the text.
    fn marker(&mut self, number: usize) -> Option<String> {
        if number != self.markers {
            return None;
        }
        self.markers += 1;
        Some(match self.marker_names.get(number)? {
            Some(name) => format!(":{}", self.name(name)),
            None => "?".to_owned(),
        })
    }

    fn term(&mut self, term: &Term) -> Option<String> {
        Some(match term {
            Term::Literal(kind, text) => literal(*kind, text),
            Term::Null => "null".to_owned(),
            Term::Marker(number) => self.marker(*number)?,
            Term::List(terms) => format!("[{}]", self.terms(terms)?),
            Term::Set(terms) => format!("{{{}}}", self.terms(terms)?),
            Term::Map(entries) => {
                let entries = joined(entries, ", ", |(key, value)| {
                    Some(format!("{} : {}", self.term(key)?, self.term(value)?))
                });
                format!("{{{}}}", entries?)
            }
            Term::Tuple(terms) => format!("({})", self.terms(terms)?),
            Term::Call(name, arguments) => format!("{}({})", function(name)?, self.terms(arguments)?),
            Term::Cast(to, term) => format!("({}) {}", self.type_of(to), self.term(term)?),
        })
    }

    fn terms(&mut self, terms: &[Term]) -> Option<String> {
        joined(terms, ", ", |term| self.term(term))
    }

    fn type_of(&self, name: &TypeName) -> String {
        match name {
            TypeName::Native(native) => type_name(native),
            TypeName::List(element) => format!("list<{}>", self.type_of(element)),
            TypeName::Set(element) => format!("set<{}>", self.type_of(element)),
            TypeName::Map(key, value) => format!("map<{}, {}>", self.type_of(key), self.type_of(value)),
            TypeName::Frozen(inner) => format!("frozen<{}>", self.type_of(inner)),
            // In quotes, it is not the name of a native type.
            TypeName::Named(Some(keyspace), name) => format!("{}.{}", quoted(keyspace), quoted(name)),
            TypeName::Named(None, name) => quoted(name),
            TypeName::Other(text) => match text.strip_prefix('\'').and_then(|text| text.strip_suffix('\'')) {
                Some(class) => literal(LiteralKind::String, class),
                None => text.clone(),
            },
        }
    }

    fn in_values(&mut self, values: &InValues) -> Option<String> {
        match values {
            InValues::Terms(terms) => Some(format!("({})", self.terms(terms)?)),
            InValues::Marker(number) => self.marker(*number),
        }
    }

    fn relation(&mut self, relation: &Relation) -> Option<String> {
        Some(match relation {
            Relation::Single(column, operator, term) => {
                format!("{} {} {}", self.name(column), operator.sign(), self.term(term)?)
            }
            Relation::In(column, values) => format!("{} IN {}", self.name(column), self.in_values(values)?),
            Relation::IsNotNull(column) => format!("{} IS NOT NULL", self.name(column)),
            Relation::Like(column, term) => format!("{} LIKE {}", self.name(column), self.term(term)?),
            Relation::Element(column, key, operator, term) => {
                let (column, key) = (self.name(column), self.term(key)?);
                format!("{column}[{key}] {} {}", operator.sign(), self.term(term)?)
            }
            Relation::Token(columns, operator, term) => {
                format!("token({}) {} {}", self.name_list(columns), operator.sign(), self.term(term)?)
            }
            Relation::Multi(columns, operator, term) => {
                format!("({}) {} {}", self.name_list(columns), operator.sign(), self.term(term)?)
            }
            Relation::MultiIn(columns, values) => {
                format!("({}) IN {}", self.name_list(columns), self.in_values(values)?)
            }
        })
    }

    fn relations(&mut self, relations: &[Relation]) -> Option<String> {
        joined(relations, " AND ", |relation| self.relation(relation))
    }

    fn selector(&mut self, selector: &Selector) -> Option<String> {
        Some(match selector {
            Selector::Column(column) => self.name(column),
            Selector::CountRows => "count(*)".to_owned(),
            Selector::WriteTime(column) => format!("writetime({})", self.name(column)),
            Selector::MaxWriteTime(column) => format!("maxwritetime({})", self.name(column)),
            Selector::Ttl(column) => format!("ttl({})", self.name(column)),
            Selector::Call(name, arguments) => {
                let arguments = joined(arguments, ", ", |argument| self.selector(argument))?;
                format!("{}({arguments})", function(name)?)
            }
            Selector::Cast(selector, to) => {
                format!("cast({} AS {})", self.selector(selector)?, self.type_of(to))
            }
            Selector::Term(term) => self.term(term)?,
            Selector::Other(_) => return None,
        })
    }

    fn select(&mut self, select: &Select) -> Option<String> {
        let mut text = "SELECT".to_owned();
        let add = |text: &mut String, condition: bool, part: &str| {
            if condition {
                text.push_str(part);
            }
        };
        add(&mut text, select.json, " JSON");
        add(&mut text, select.distinct, " DISTINCT");
        let selectors = joined(&select.selectors, ", ", |(selector, alias)| {
            let selector = self.selector(selector)?;
            let alias = alias.as_ref().map(|alias| format!(" AS {}", self.name(alias)));
            Some(selector + &alias.unwrap_or_default())
        })?;
        text.push(' ');
        text.push_str(if selectors.is_empty() { "*" } else { &selectors });
        text.push_str(&format!(" FROM {}", self.table(&select.table)));
        if !select.relations.is_empty() {
            text.push_str(&format!(" WHERE {}", self.relations(&select.relations)?));
        }
        if !select.group_by.is_empty() {
            let by = joined(&select.group_by, ", ", |selector| self.selector(selector))?;
            text.push_str(&format!(" GROUP BY {by}"));
        }
        if !select.order_by.is_empty() {
            text.push_str(&format!(" ORDER BY {}", self.orders(&select.order_by)));
        }
        if let Some(limit) = &select.per_partition_limit {
            text.push_str(&format!(" PER PARTITION LIMIT {}", self.term(limit)?));
        }
        if let Some(limit) = &select.limit {
            text.push_str(&format!(" LIMIT {}", self.term(limit)?));
        }
        add(&mut text, select.allow_filtering, " ALLOW FILTERING");
        Some(text)
    }

    fn orders(&self, columns: &[(String, bool)]) -> String {
        let order = |(column, descending): &(String, bool)| {
            format!("{} {}", self.name(column), if *descending { "DESC" } else { "ASC" })
        };
        columns.iter().map(order).collect::<Vec<_>>().join(", ")
    }

    /// With a space before it, if there is any.
    fn using(&mut self, attributes: &Attributes) -> Option<String> {
        let Attributes { timestamp, ttl } = attributes;
        let mut parts: Vec<(&str, &Term)> = Vec::new();
        parts.extend(timestamp.as_ref().map(|timestamp| ("TIMESTAMP", timestamp)));
        parts.extend(ttl.as_ref().map(|ttl| ("TTL", ttl)));
        // Of two markers the one with the smaller number was written first.
        if let [(_, Term::Marker(first)), (_, Term::Marker(second))] = parts.as_slice()
            && second < first
        {
            parts.reverse();
        }
        let parts = joined(&parts, " AND ", |(name, term)| Some(format!("{name} {}", self.term(term)?)))?;
        Some(if parts.is_empty() { parts } else { format!(" USING {parts}") })
    }

    /// With a space before it, if there is one.
    fn condition(&mut self, condition: &Condition) -> Option<String> {
        Some(match condition {
            Condition::None => String::new(),
            Condition::NotExists => " IF NOT EXISTS".to_owned(),
            Condition::Exists => " IF EXISTS".to_owned(),
            Condition::Columns(relations) => format!(" IF {}", self.relations(relations)?),
        })
    }

    fn insert(&mut self, insert: &Insert) -> Option<String> {
        let Insert { table, columns, values, condition, attributes } = insert;
        let (table, columns, values) = (self.table(table), self.name_list(columns), self.terms(values)?);
        let (condition, using) = (self.condition(condition)?, self.using(attributes)?);
        Some(format!("INSERT INTO {table} ({columns}) VALUES ({values}){condition}{using}"))
    }

    fn update(&mut self, update: &Update) -> Option<String> {
        let Update { table, attributes, assignments, relations, condition } = update;
        let (table, using) = (self.table(table), self.using(attributes)?);
        let assignments = joined(assignments, ", ", |(column, assignment)| match assignment {
            Assignment::Set(term) => Some(format!("{} = {}", self.name(column), self.term(term)?)),
            Assignment::Other(_) => None,
        })?;
        let (relations, condition) = (self.relations(relations)?, self.condition(condition)?);
        Some(format!("UPDATE {table}{using} SET {assignments} WHERE {relations}{condition}"))
    }

    fn delete(&mut self, delete: &Delete) -> Option<String> {
        let Delete { table, columns, elements, attributes, relations, condition } = delete;
        if !elements.is_empty() {
            return None;
        }
        let columns = self.name_list(columns);
        let (table, using) = (self.table(table), self.using(attributes)?);
        let (relations, condition) = (self.relations(relations)?, self.condition(condition)?);
        Some(format!("DELETE {columns} FROM {table}{using} WHERE {relations}{condition}"))
    }

    fn modification(&mut self, modification: &Modification) -> Option<String> {
        match modification {
            Modification::Insert(insert) => self.insert(insert),
            Modification::Update(update) => self.update(update),
            Modification::Delete(delete) => self.delete(delete),
        }
    }

    fn batch(&mut self, batch: &Batch) -> Option<String> {
        let kind = match batch.kind {
            BatchKind::Logged => "",
            BatchKind::Unlogged => " UNLOGGED",
            BatchKind::Counter => " COUNTER",
        };
        let using = self.using(&batch.attributes)?;
        let statements = joined(&batch.statements, "; ", |statement| self.modification(statement))?;
        Some(format!("BEGIN{kind} BATCH{using} {statements} APPLY BATCH"))
    }

    fn properties(&self, properties: &[(String, Property)]) -> Vec<String> {
        let text = |text: &str| literal(LiteralKind::String, text);
        let property = |(name, property): &(String, Property)| match property {
            Property::Simple(value) => format!("{} = {}", self.name(name), text(value)),
            Property::Map(entries) => {
                let entries: Vec<String> =
                    entries.iter().map(|(key, value)| format!("{}: {}", text(key), text(value))).collect();
                format!("{} = {{{}}}", self.name(name), entries.join(", "))
            }
        };
        properties.iter().map(property).collect()
    }

    fn column(&self, column: &ColumnDefinition) -> String {
        let is_static = if column.is_static { " STATIC" } else { "" };
        format!("{} {}{is_static}", self.name(&column.name), self.type_of(&column.type_name))
    }

    fn create_table(&self, create: &CreateTable) -> String {
        let mut parts: Vec<String> = create.columns.iter().map(|column| self.column(column)).collect();
        parts.extend(create.primary_keys.iter().map(|(partition, clustering)| {
            let clustering: String =
                clustering.iter().map(|column| format!(", {}", self.name(column))).collect();
            format!("PRIMARY KEY (({}){clustering})", self.name_list(partition))
        }));
        let mut with = Vec::new();
        if create.compact_storage {
            with.push("COMPACT STORAGE".to_owned());
        }
        if !create.clustering_order.is_empty() {
            with.push(format!("CLUSTERING ORDER BY ({})", self.orders(&create.clustering_order)));
        }
        with.extend(self.properties(&create.properties));
        let with = if with.is_empty() { String::new() } else { format!(" WITH {}", with.join(" AND ")) };
        let if_not_exists = if create.if_not_exists { "IF NOT EXISTS " } else { "" };
        format!("CREATE TABLE {if_not_exists}{} ({}){with}", self.table(&create.table), parts.join(", "))
    }

    fn alter_table(&self, change: &AlterTableChange) -> Option<String> {
        let if_exists = |is: bool| if is { " IF EXISTS" } else { "" };
        Some(match change {
            AlterTableChange::Add { if_not_exists, columns } => {
                let columns: Vec<String> = columns.iter().map(|column| self.column(column)).collect();
                let if_not_exists = if *if_not_exists { " IF NOT EXISTS" } else { "" };
                format!("ADD{if_not_exists} ({})", columns.join(", "))
            }
            AlterTableChange::Drop { if_exists: is, columns, timestamp } => {
                let using = timestamp.map(|timestamp| format!(" USING TIMESTAMP {timestamp}"));
                let using = using.unwrap_or_default();
                format!("DROP{} ({}){using}", if_exists(*is), self.name_list(columns))
            }
            AlterTableChange::Rename { if_exists: is, columns } => {
                let rename =
                    |(from, to): &(String, String)| format!("{} TO {}", self.name(from), self.name(to));
                let columns: Vec<String> = columns.iter().map(rename).collect();
                format!("RENAME{} {}", if_exists(*is), columns.join(" AND "))
            }
            AlterTableChange::Type => return None,
            AlterTableChange::Properties(properties) => {
                format!("WITH {}", self.properties(properties).join(" AND "))
            }
            AlterTableChange::DropCompactStorage => "DROP COMPACT STORAGE".to_owned(),
        })
    }

    fn describe(&self, describe: &Describe) -> String {
        match describe {
            Describe::Cluster => "CLUSTER".to_owned(),
            Describe::Schema(all) => if *all { "FULL SCHEMA" } else { "SCHEMA" }.to_owned(),
            Describe::Keyspaces => "KEYSPACES".to_owned(),
            Describe::Keyspace(name, only) => {
                let name = name.as_ref().map(|name| format!(" {}", self.name(name))).unwrap_or_default();
                format!("{}KEYSPACE{name}", if *only { "ONLY " } else { "" })
            }
            Describe::Tables => "TABLES".to_owned(),
            Describe::Table(table) => format!("TABLE {}", self.table(table)),
            // Many names are keywords here.
            Describe::Any(table) => Printer { names: Names::Quoted, ..*self }.table(table),
            Describe::Nothing => "TYPES".to_owned(),
        }
    }

    fn statement(&mut self, statement: &Statement) -> Option<String> {
        let if_exists = |is: bool| if is { "IF EXISTS " } else { "" };
        let with = |printer: &Self, properties: &[(String, Property)]| {
            format!("WITH {}", printer.properties(properties).join(" AND "))
        };
        Some(match statement {
            Statement::Select(select) => self.select(select)?,
            Statement::Modification(modification) => self.modification(modification)?,
            Statement::Batch(batch) => self.batch(batch)?,
            Statement::Use(keyspace) => format!("USE {}", self.name(keyspace)),
            Statement::Truncate(table) => format!("TRUNCATE TABLE {}", self.table(table)),
            Statement::CreateKeyspace { name, if_not_exists, properties } => {
                let if_not_exists = if *if_not_exists { "IF NOT EXISTS " } else { "" };
                let (name, with) = (self.name(name), with(self, properties));
                format!("CREATE KEYSPACE {if_not_exists}{name} {with}")
            }
            Statement::AlterKeyspace { name, if_exists: is, properties } => {
                format!("ALTER KEYSPACE {}{} {}", if_exists(*is), self.name(name), with(self, properties))
            }
            Statement::DropKeyspace { name, if_exists: is } => {
                format!("DROP KEYSPACE {}{}", if_exists(*is), self.name(name))
            }
            Statement::CreateTable(create) => self.create_table(create),
            Statement::AlterTable { table, if_exists: is, change } => {
                let (table, change) = (self.table(table), self.alter_table(change)?);
                format!("ALTER TABLE {}{table} {change}", if_exists(*is))
            }
            Statement::DropTable { table, if_exists: is } => {
                format!("DROP TABLE {}{}", if_exists(*is), self.table(table))
            }
            Statement::Describe(describe) => format!("DESCRIBE {}", self.describe(describe)),
        })
    }
}

/// The name of a function, always in quotes: without them `count` or `token` would be keywords. One with a keyspace has a
/// point, as has a name that was written with a point in quotes.
fn function(name: &str) -> Option<String> {
    match name.split_once('.') {
        None => Some(quoted(name)),
        Some((keyspace, name)) if !name.contains('.') && keyspace != "system" => {
            Some(format!("{}.{}", quoted(keyspace), quoted(name)))
        }
        Some(_) => None,
    }
}
