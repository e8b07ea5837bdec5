//! The position of the parser in the tokens, and its errors.

use super::super::ast::{TableName, Term};
use super::super::lexer::{Kind, Token, tokens};
use crate::protocol::ServerError;

/// How deep values, types and functions may be nested.
const DEEPEST: usize = 100;

/// How many tokens a statement may have; it bounds the memory that a text can demand.
const MAX_TOKENS: usize = 1 << 18;

/// Keywords that are not names unless they are quoted. (`true` and `false` are constants to the lexer.)
const RESERVED: [&str; 57] = [
    "add",
    "allow",
    "alter",
    "and",
    "apply",
    "asc",
    "authorize",
    "batch",
    "begin",
    "by",
    "columnfamily",
    "create",
    "delete",
    "desc",
    "describe",
    "drop",
    "entries",
    "execute",
    "false",
    "from",
    "full",
    "grant",
    "if",
    "in",
    "index",
    "infinity",
    "insert",
    "into",
    "is",
    "keyspace",
    "limit",
    "materialized",
    "modify",
    "nan",
    "norecursive",
    "not",
    "null",
    "of",
    "on",
    "or",
    "order",
    "primary",
    "rename",
    "revoke",
    "schema",
    "select",
    "set",
    "table",
    "to",
    "token",
    "true",
    "truncate",
    "unlogged",
    "update",
    "use",
    "using",
    "where",
];

/// The other reserved keywords; separate only because of their number.
const RESERVED_TOO: [&str; 2] = ["view", "with"];

/// Whether a keyword is reserved, so that a name must be quoted.
pub(in super::super) fn is_reserved(word: &str) -> bool {
    RESERVED.iter().chain(&RESERVED_TOO).any(|known| known.eq_ignore_ascii_case(word))
}

/// The tokens, and the place of the next one.
pub(super) struct Cursor<'a> {
    query: &'a str,
    tokens: Vec<Token>,
    /// Places of the tokens that are neither white space nor comments.
    visible: Vec<usize>,
    at: usize,
    markers: Vec<Option<String>>,
    depth: usize,
}

impl<'a> Cursor<'a> {
    /// The whole statement.
    pub fn text(&self) -> &'a str {
        self.query
    }

    /// At the first token of `query`.
    pub fn new(query: &'a str) -> Result<Cursor<'a>, ServerError> {
        let tokens = tokens(query);
        if tokens.len() > MAX_TOKENS {
            return Err(ServerError::Syntax(format!("a statement of more than {MAX_TOKENS} tokens")));
        }
        let visible = (0..tokens.len()).filter(|at| tokens[*at].kind != Kind::Hidden).collect();
        Ok(Cursor { query, tokens, visible, at: 0, markers: Vec::new(), depth: 0 })
    }

    /// The markers met so far.
    pub fn into_markers(self) -> Vec<Option<String>> {
        self.markers
    }

    /// The token `ahead` of the next one; the last one if there is none.
    pub fn peek(&self, ahead: usize) -> &Token {
        let place = self.visible.get(self.at + ahead).or(self.visible.last()).copied().unwrap_or(0);
        &self.tokens[place]
    }

    /// Goes on to the next token.
    pub fn advance(&mut self) {
        self.at = (self.at + 1).min(self.visible.len().saturating_sub(1));
    }

    /// Where it stands, for [`Cursor::back_to`].
    pub fn place(&self) -> (usize, usize) {
        (self.at, self.markers.len())
    }

    /// Goes back to a place.
    pub fn back_to(&mut self, place: (usize, usize)) {
        self.at = place.0;
        self.markers.truncate(place.1);
    }

    /// The text as it was written from a place to here.
    pub fn written_since(&self, place: (usize, usize)) -> &'a str {
        let first = self.visible.get(place.0).map_or(0, |at| self.tokens[*at].start);
        let last =
            self.at.checked_sub(1).and_then(|at| self.visible.get(at)).map_or(0, |at| self.tokens[*at].end);
        self.query.get(first..last).unwrap_or("")
    }

    /// Runs `inner` one level deeper.
    pub fn nested<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, ServerError>,
    ) -> Result<T, ServerError> {
        if self.depth == DEEPEST {
            return Err(ServerError::Syntax(format!("nested more than {DEEPEST} levels deep")));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    /// Whether the token `ahead` of the next one is this keyword.
    pub fn keyword_ahead(&self, ahead: usize, keyword: &str) -> bool {
        let token = self.peek(ahead);
        token.kind == Kind::Word && token.text.eq_ignore_ascii_case(keyword)
    }

    /// Whether the next token is this keyword.
    pub fn at_keyword(&self, keyword: &str) -> bool {
        self.keyword_ahead(0, keyword)
    }

    /// Passes this keyword, if it is next.
    pub fn keyword(&mut self, keyword: &str) -> bool {
        let found = self.at_keyword(keyword);
        if found {
            self.advance();
        }
        found
    }

    /// Passes this keyword, which must be next.
    pub fn expect_keyword(&mut self, keyword: &str) -> Result<(), ServerError> {
        if self.keyword(keyword) {
            Ok(())
        } else {
            Err(self.mismatch(&format!("K_{}", keyword.to_uppercase())))
        }
    }

    /// Whether the token `ahead` of the next one is this sign.
    pub fn sign_ahead(&self, ahead: usize, sign: &str) -> bool {
        let token = self.peek(ahead);
        token.kind == Kind::Sign && token.text == sign
    }

    /// Whether the next token is this sign.
    pub fn at_sign(&self, sign: &str) -> bool {
        self.sign_ahead(0, sign)
    }

    /// Passes this sign, if it is next.
    pub fn sign(&mut self, sign: &str) -> bool {
        let found = self.at_sign(sign);
        if found {
            self.advance();
        }
        found
    }

    /// Passes this sign, which must be next.
    pub fn expect_sign(&mut self, sign: &str) -> Result<(), ServerError> {
        if self.sign(sign) { Ok(()) } else { Err(self.mismatch(&format!("'{sign}'"))) }
    }

    /// Whether the next token can be a name.
    pub fn at_name(&self) -> bool {
        self.name_ahead(0)
    }

    /// Whether the token `ahead` of the next one can be a name.
    pub fn name_ahead(&self, ahead: usize) -> bool {
        let token = self.peek(ahead);
        match token.kind {
            Kind::Quoted => true,
            // `-NaN` and `-Infinity` are keywords as well.
            Kind::Word => !token.text.starts_with('-') && !is_reserved(&token.text),
            _ => false,
        }
    }

    /// A name: lower case, unless it is quoted.
    pub fn name(&mut self) -> Result<String, ServerError> {
        if !self.at_name() {
            return Err(self.no_alternative());
        }
        let token = self.peek(0);
        let name =
            if token.kind == Kind::Word { token.text.to_ascii_lowercase() } else { token.text.clone() };
        self.advance();
        Ok(name)
    }

    /// `a, b, c)`: names up to the parenthesis, which is passed.
    pub fn names(&mut self) -> Result<Vec<String>, ServerError> {
        let mut names = vec![self.name()?];
        while self.sign(",") {
            names.push(self.name()?);
        }
        self.expect_sign(")")?;
        Ok(names)
    }

    /// `keyspace.table`, or `table`.
    pub fn table_name(&mut self) -> Result<TableName, ServerError> {
        let first = self.name()?;
        if self.sign(".") {
            return Ok(TableName { keyspace: Some(first), name: self.name()? });
        }
        Ok(TableName { keyspace: None, name: first })
    }

    /// Whether the next token is a marker.
    pub fn at_marker(&self) -> bool {
        self.at_sign("?") || (self.at_sign(":") && self.name_ahead(1))
    }

    /// `?` or `:name`.
    pub fn marker(&mut self) -> Result<usize, ServerError> {
        let name = if self.sign("?") {
            None
        } else {
            self.expect_sign(":")?;
            Some(self.name()?)
        };
        self.markers.push(name);
        Ok(self.markers.len() - 1)
    }

    /// A whole number or a marker.
    pub fn whole_number(&mut self) -> Result<Term, ServerError> {
        if self.at_marker() {
            return self.marker().map(Term::Marker);
        }
        let token = self.peek(0);
        if token.kind != Kind::Integer {
            return Err(self.no_alternative());
        }
        let term = Term::Literal(super::super::ast::LiteralKind::Integer, token.text.clone());
        self.advance();
        Ok(term)
    }

    /// Skips semicolons; nothing may follow them.
    pub fn end(&mut self) -> Result<(), ServerError> {
        while self.sign(";") {}
        if self.peek(0).kind == Kind::End { Ok(()) } else { Err(self.mismatch("EOF")) }
    }

    /// The error if the next token is none of those allowed here.
    pub fn no_alternative(&self) -> ServerError {
        self.no_alternative_ahead(0)
    }

    /// The error if the token `ahead` of the next one is none of those allowed there.
    pub fn no_alternative_ahead(&self, ahead: usize) -> ServerError {
        let input = self.peek(ahead).text.clone();
        self.error(ahead, &format!("no viable alternative at input '{input}'"))
    }

    /// The error if the next token is none of those allowed here, for a decision that started at `place`.
    pub fn no_alternative_since(&self, place: (usize, usize)) -> ServerError {
        let input = self.peek(0).text.clone();
        self.error_between(place.0, self.at, &format!("no viable alternative at input '{input}'"))
    }

    /// The error if the next token is not the only one allowed here.
    pub fn mismatch(&self, expected: &str) -> ServerError {
        let input = &self.peek(0).text;
        self.error(0, &format!("mismatched input '{input}' expecting {expected}"))
    }

    /// This is CQL, and not simulated.
    pub fn not_simulated(&self, what: &str) -> ServerError {
        let token = self.peek(0);
        ServerError::invalid(format!(
            "{what} is not simulated (line {}:{} at '{}')",
            token.line, token.column, token.text
        ))
    }

    /// An error at the token `ahead`, with the text around the place where the decision began.
    fn error(&self, ahead: usize, message: &str) -> ServerError {
        self.error_between(self.at, self.at + ahead, message)
    }

    /// An error at the token `reported`, where the decision began at `decided`.
    fn error_between(&self, decided: usize, reported: usize, message: &str) -> ServerError {
        let place = |at: usize| self.visible.get(at).copied().unwrap_or(self.tokens.len() - 1);
        let token = &self.tokens[place(reported)];
        match token.kind {
            Kind::Broken => return ServerError::Syntax(token.text.clone()),
            Kind::End => return ServerError::Syntax(format!("line 0:-1 {message}")),
            _ => {}
        }
        let offending = place(decided);
        // ErrorCollector shows ten tokens before and two after, as far as they have been read.
        let first = offending.saturating_sub(10);
        let last = (offending + 2).min(place(reported)).max(offending);
        let mut around = String::new();
        if first > 0 {
            around.push_str("...");
        }
        let mut shown_to = 0;
        for at in first..=last {
            let shown = &self.tokens[at];
            // Of what is in quotes it shows as much as the text without them is long.
            let end = match shown.kind {
                Kind::Text | Kind::Quoted => (shown.start + shown.text.len()).min(shown.end),
                _ => shown.end,
            };
            let text = self.query.get(shown.start..end).unwrap_or("");
            shown_to = end;
            if at == offending {
                around.push_str(&format!("[{text}]"));
            } else {
                around.push_str(text);
            }
        }
        if shown_to < self.query.len() {
            around.push_str("...");
        }
        ServerError::Syntax(format!("line {}:{} {message} ({around})", token.line, token.column))
    }
}
