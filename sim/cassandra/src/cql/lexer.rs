//! Tokens (Cassandra's `Lexer.g`).

/// What kind of token it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name, or a keyword: the parser decides by the position.
    Word,
    /// A name in double quotes.
    Quoted,
    /// Text in single quotes or between `$$`.
    Text,
    /// A whole number.
    Integer,
    /// A number with a point or an exponent.
    Float,
    /// `0x` and digits.
    Hex,
    /// A UUID.
    Uuid,
    /// A duration such as `1h30m` or `P1Y`.
    Duration,
    /// A sign.
    Sign,
    /// White space or a comment.
    Hidden,
    /// An invalid token: the text is the message, and no token follows.
    Broken,
    /// The end.
    End,
}

/// A token and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Token {
    /// Its kind.
    pub kind: Kind,
    /// Its content: without quotes, and with doubled quotes made single.
    pub text: String,
    /// Where it begins in the query.
    pub start: usize,
    /// Where it ends in the query.
    pub end: usize,
    /// Its line, from 1.
    pub line: usize,
    /// Characters before it on its line.
    pub column: usize,
}

/// Splits a query into tokens; the last is `End` or `Broken`.
pub(super) fn tokens(query: &str) -> Vec<Token> {
    let mut lexer = Lexer { query, at: 0, line: 1, column: 0, tokens: Vec::new() };
    while lexer.step() {}
    lexer.tokens
}

struct Lexer<'a> {
    query: &'a str,
    at: usize,
    line: usize,
    column: usize,
    tokens: Vec<Token>,
}

fn is_word_start(c: char) -> bool {
    c.is_ascii_alphabetic()
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.query[self.at..]
    }

    /// Adds the token that ends after `length` bytes.
    fn push(&mut self, kind: Kind, length: usize, text: String) {
        let (line, column, start) = (self.line, self.column, self.at);
        let end = start + length;
        for c in self.query[start..end].chars() {
            if c == '\n' {
                self.line += 1;
                self.column = 0;
            } else {
                self.column += 1;
            }
        }
        self.at = end;
        self.tokens.push(Token { kind, text, start, end, line, column });
    }

    fn push_as_it_is(&mut self, kind: Kind, length: usize) -> bool {
        let text = self.rest()[..length].to_owned();
        self.push(kind, length, text);
        true
    }

    /// Ends with a message about the character at `offset` from here.
    fn broken(&mut self, offset: usize, message: &str) -> bool {
        // Moves line and column there.
        self.push(Kind::Hidden, offset, String::new());
        let text = format!("line {}:{} {message}", self.line, self.column);
        self.push(Kind::Broken, 0, text);
        false
    }

    /// Reads one token; false at the end.
    fn step(&mut self) -> bool {
        let rest = self.rest();
        let Some(c) = rest.chars().next() else {
            self.push(Kind::End, 0, "<EOF>".to_owned());
            return false;
        };
        match c {
            ' ' | '\t' | '\n' | '\r' => {
                let length = rest.find(|c| !matches!(c, ' ' | '\t' | '\n' | '\r')).unwrap_or(rest.len());
                self.push_as_it_is(Kind::Hidden, length)
            }
            '-' if rest.starts_with("--") => self.line_comment(),
            '/' if rest.starts_with("//") => self.line_comment(),
            '/' if rest.starts_with("/*") => match rest.find("*/") {
                Some(end) => self.push_as_it_is(Kind::Hidden, end + 2),
                None => self.broken(rest.len(), "mismatched character '<EOF>' expecting '*'"),
            },
            '\'' => self.quoted('\'', Kind::Text),
            '"' => self.quoted('"', Kind::Quoted),
            '$' if rest.starts_with("$$") => match rest[2..].find("$$") {
                Some(length) => {
                    let text = rest[2..2 + length].to_owned();
                    self.push(Kind::Text, length + 4, text);
                    true
                }
                None => self.broken(rest.len(), "mismatched character '<EOF>' expecting '$'"),
            },
            '0'..='9' => self.number(),
            '-' if self.number_follows(&rest[1..]) => self.number(),
            c if is_word_start(c) => self.word(),
            _ => {
                for sign in ["..", "<=", ">=", "!=", "+=", "-="] {
                    if rest.starts_with(sign) {
                        return self.push_as_it_is(Kind::Sign, sign.len());
                    }
                }
                if "()[]{},;:.=<>?*+-/%".contains(c) {
                    return self.push_as_it_is(Kind::Sign, c.len_utf8());
                }
                let message = format!("no viable alternative at character '{c}'");
                self.broken(0, &message)
            }
        }
    }

    /// Whether what follows a minus makes it part of a number, a duration or a constant.
    fn number_follows(&self, rest: &str) -> bool {
        let word_end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let word = &rest[..word_end];
        rest.starts_with(|c: char| c.is_ascii_digit())
            || word.eq_ignore_ascii_case("nan")
            || word.eq_ignore_ascii_case("infinity")
            || iso_duration(rest).is_some()
    }

    fn line_comment(&mut self) -> bool {
        let rest = self.rest();
        let length = rest.find(['\n', '\r']).map_or(rest.len(), |end| end + 1);
        self.push_as_it_is(Kind::Hidden, length)
    }

    fn quoted(&mut self, quote: char, kind: Kind) -> bool {
        let rest = self.rest();
        let mut text = String::new();
        let mut at = 1;
        loop {
            let Some(length) = rest[at..].find(quote) else {
                let message = format!("mismatched character '<EOF>' expecting '{quote}'");
                return self.broken(rest.len(), &message);
            };
            text.push_str(&rest[at..at + length]);
            at += length + 1;
            if !rest[at..].starts_with(quote) {
                break;
            }
            text.push(quote);
            at += 1;
        }
        self.push(kind, at, text);
        true
    }

    fn word(&mut self) -> bool {
        let rest = self.rest();
        if let Some(length) = uuid(rest) {
            return self.push_as_it_is(Kind::Uuid, length);
        }
        let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        match iso_duration(rest) {
            Some(duration) if duration >= length => self.push_as_it_is(Kind::Duration, duration),
            _ => self.push_as_it_is(Kind::Word, length),
        }
    }

    fn number(&mut self) -> bool {
        let rest = self.rest();
        if let Some(length) = uuid(rest) {
            return self.push_as_it_is(Kind::Uuid, length);
        }
        if rest.starts_with("0x") || rest.starts_with("0X") {
            let digits = &rest[2..];
            let length = digits.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(digits.len());
            return self.push_as_it_is(Kind::Hex, length + 2);
        }
        if let Some(length) = iso_duration(rest) {
            return self.push_as_it_is(Kind::Duration, length);
        }
        let sign = usize::from(rest.starts_with('-'));
        let word = &rest[sign..];
        if word.starts_with(is_word_start) {
            // -NaN and -Infinity.
            let length = word.find(|c| !is_word(c)).unwrap_or(word.len());
            return self.push_as_it_is(Kind::Word, sign + length);
        }
        let whole = sign + digits(word);
        if let Some(length) = unit_duration(&rest[sign..]) {
            return self.push_as_it_is(Kind::Duration, sign + length);
        }
        let mut length = whole;
        // `1..2` is a range and no number with a point.
        if rest[length..].starts_with('.') && !rest[length..].starts_with("..") {
            length += 1 + digits(&rest[length + 1..]);
        }
        if rest[length..].starts_with(['e', 'E']) {
            let exponent = &rest[length + 1..];
            let signed = usize::from(exponent.starts_with(['+', '-']));
            let places = digits(&exponent[signed..]);
            if places > 0 {
                length += 1 + signed + places;
            }
        }
        let kind = if length == whole { Kind::Integer } else { Kind::Float };
        self.push_as_it_is(kind, length)
    }
}

fn digits(text: &str) -> usize {
    text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len())
}

/// How long the UUID is that the text begins with.
fn uuid(text: &str) -> Option<usize> {
    let bytes = text.as_bytes().get(..36)?;
    let fits = bytes.iter().enumerate().all(|(at, byte)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    });
    fits.then_some(36)
}

/// How long the duration is that the text begins with, such as `1mo2d3h`.
fn unit_duration(text: &str) -> Option<usize> {
    let mut at = 0;
    loop {
        let places = digits(&text[at..]);
        if places == 0 {
            break;
        }
        let after = &text[at + places..];
        let unit = ["mo", "ms", "us", "µs", "ns", "y", "w", "d", "h", "m", "s"].into_iter().find(|unit| {
            after.get(..unit.len()).is_some_and(|start| start.eq_ignore_ascii_case(unit) || start == *unit)
        })?;
        at += places + unit.len();
    }
    let ends = !text[at..].starts_with(is_word);
    (at > 0 && ends).then_some(at)
}

/// How long the ISO 8601 duration is that the text begins with, such as `P1Y2DT3H` or `P0001-02-03T04:05:06`.
fn iso_duration(text: &str) -> Option<usize> {
    let sign = usize::from(text.starts_with('-'));
    let body = text[sign..].strip_prefix('P')?;
    if let Some(alternative) = body.as_bytes().get(..19) {
        let pattern = b"dddd-dd-ddTdd:dd:dd";
        let fits = alternative.iter().zip(pattern).all(|(byte, expected)| match expected {
            b'd' => byte.is_ascii_digit(),
            _ => byte == expected,
        });
        if fits {
            return Some(sign + 1 + 19);
        }
    }
    let ends = |at: usize| !body[at..].starts_with(is_word);
    let weeks = digits(body);
    if weeks > 0 && body[weeks..].starts_with('W') {
        return ends(weeks + 1).then_some(sign + 1 + weeks + 1);
    }
    // Units come at most once, from the largest to the smallest, and at least one after `T`.
    let units = |mut at: usize, designators: [char; 3]| {
        let mut found = false;
        for designator in designators {
            let places = digits(&body[at..]);
            if places > 0 && body[at + places..].starts_with(designator) {
                at += places + 1;
                found = true;
            }
        }
        (at, found)
    };
    let (mut at, has_date) = units(0, ['Y', 'M', 'D']);
    let mut has_time = false;
    if body[at..].starts_with('T') {
        (at, has_time) = units(at + 1, ['H', 'M', 'S']);
        if !has_time {
            return None;
        }
    }
    ((has_date || has_time) && ends(at)).then_some(sign + 1 + at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(query: &str) -> Vec<(Kind, String)> {
        let all = tokens(query).into_iter();
        all.filter(|token| token.kind != Kind::Hidden).map(|token| (token.kind, token.text)).collect()
    }

    #[test]
    fn every_kind_of_constant_is_one_token() {
        for (text, kind) in [
            ("abc_1", Kind::Word),
            ("12", Kind::Integer),
            ("-12", Kind::Integer),
            ("1.5", Kind::Float),
            ("1.", Kind::Float),
            ("-1e10", Kind::Float),
            ("1.5E-3", Kind::Float),
            ("0xCAFE", Kind::Hex),
            ("0x", Kind::Hex),
            ("123e4567-e89b-12d3-a456-426655440000", Kind::Uuid),
            ("e23e4567-e89b-12d3-a456-426655440000", Kind::Uuid),
            ("1h30m", Kind::Duration),
            ("-2mo5d", Kind::Duration),
            ("P1Y2M3DT4H5M6S", Kind::Duration),
            ("P3W", Kind::Duration),
            ("P0001-02-03T04:05:06", Kind::Duration),
            ("PT5M", Kind::Duration),
            ("partition", Kind::Word),
            ("P", Kind::Word),
            ("-NaN", Kind::Word),
            ("-infinity", Kind::Word),
        ] {
            assert_eq!(kinds(text), [(kind, text.to_owned()), (Kind::End, "<EOF>".to_owned())]);
        }
    }

    #[test]
    fn quotes_are_taken_off_and_doubled_ones_made_single() {
        assert_eq!(kinds("'it''s'")[0], (Kind::Text, "it's".to_owned()));
        assert_eq!(kinds("\"a\"\"b\"")[0], (Kind::Quoted, "a\"b".to_owned()));
        assert_eq!(kinds("$$it's$$")[0], (Kind::Text, "it's".to_owned()));
        assert_eq!(kinds("''")[0], (Kind::Text, String::new()));
    }

    #[test]
    fn a_range_between_numbers_is_no_point() {
        let found: Vec<String> = kinds("1..2").into_iter().map(|(_, text)| text).collect();
        assert_eq!(found, ["1", "..", "2", "<EOF>"]);
    }

    #[test]
    fn comments_and_white_space_are_hidden_and_lines_are_counted() {
        let all = tokens("a -- b\n/* c\n */ d // e");
        let shown: Vec<_> = all.iter().filter(|token| token.kind == Kind::Word).collect();
        assert_eq!((shown[0].line, shown[0].column), (1, 0));
        assert_eq!((shown[1].line, shown[1].column, shown[1].text.as_str()), (3, 4, "d"));
    }

    #[test]
    fn what_is_no_token_says_where_it_stands() {
        let last = |query| tokens(query).pop().unwrap().text;
        assert_eq!(last("SELECT *\n @"), "line 2:1 no viable alternative at character '@'");
        assert_eq!(last("c = 'abc"), "line 1:8 mismatched character '<EOF>' expecting '''");
    }
}
