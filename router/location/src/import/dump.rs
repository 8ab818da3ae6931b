//! Rows of an SQL dump: `COPY ... FROM stdin` and `INSERT` of pg_dump, `INSERT` of mysqldump.
//!
//! The text is read once, from front to end, and never held as a whole. What is neither of these
//! statements is passed over, but for `CREATE TABLE`, which names the columns where an `INSERT` does
//! not.

use std::collections::HashMap;
use std::io::{BufRead, ErrorKind};

use super::{Import, Row};

/// Longest value, name or line of a COPY, bytes.
const LONGEST: usize = 1 << 20;
/// Most columns of a table.
const MOST_COLUMNS: usize = 256;
/// Most tables whose columns are kept.
const MOST_TABLES: usize = 10_000;

/// A dump that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DumpError {
    /// The file.
    #[error("byte {at}: {source}")]
    Io {
        /// Where, bytes from the beginning.
        at: u64,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its text.
    #[error("byte {at}: {problem}")]
    Syntax {
        /// Where, bytes from the beginning.
        at: u64,
        /// What is wrong there.
        problem: String,
    },
}

/// Reads a dump; `each` is told after every row how many bytes have been read.
pub fn read_dump(
    from: &mut dyn BufRead,
    import: &mut Import,
    each: &mut dyn FnMut(u64),
) -> Result<(), DumpError> {
    let mut dump = Dump { from, at: 0, mysql: false, columns: HashMap::new() };
    while let Some(byte) = dump.skip_blank()? {
        match byte {
            b'\\' => dump.skip_line()?,
            b';' => dump.advance(),
            _ if is_word(byte) => match &*dump.word()?.to_ascii_uppercase() {
                "COPY" => dump.copy(import, each)?,
                "INSERT" | "REPLACE" => dump.insert(import, each)?,
                "CREATE" => dump.create()?,
                _ => dump.skip_statement()?,
            },
            _ => dump.skip_statement()?,
        }
    }
    Ok(())
}

/// The row of a line in COPY's text format.
pub(super) fn copied_row(columns: &[String], line: &[u8]) -> Row {
    let values = line.split(|byte| *byte == b'\t').map(|field| match field {
        b"\\N" => None,
        _ => Some(unescaped(field)),
    });
    Row { values: columns.iter().cloned().zip(values).collect() }
}

/// Backslashes of COPY, and of MySQL's literals.
fn unescaped(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut bytes = field.iter().copied();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'\\' => bytes.next().map_or(b'\\', escape),
            other => other,
        });
    }
    out
}

fn escape(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b't' => b'\t',
        b'r' => b'\r',
        b'b' => 8,
        b'f' => 12,
        b'v' => 11,
        b'0' => 0,
        b'Z' => 26,
        other => other,
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

struct Dump<'a> {
    from: &'a mut dyn BufRead,
    at: u64,
    /// A backslash in a literal escapes.
    mysql: bool,
    /// Columns by table, from `CREATE TABLE`.
    columns: HashMap<String, Vec<String>>,
}

impl Dump<'_> {
    fn peek(&mut self) -> Result<Option<u8>, DumpError> {
        loop {
            match self.from.fill_buf() {
                Ok(bytes) => return Ok(bytes.first().copied()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(DumpError::Io { at: self.at, source }),
            }
        }
    }

    fn advance(&mut self) {
        self.from.consume(1);
        self.at += 1;
    }

    fn next(&mut self) -> Result<u8, DumpError> {
        let Some(byte) = self.peek()? else { return Err(self.fault("it ends here")) };
        self.advance();
        Ok(byte)
    }

    fn fault(&self, problem: impl Into<String>) -> DumpError {
        DumpError::Syntax { at: self.at, problem: problem.into() }
    }

    fn push(&self, text: &mut Vec<u8>, byte: u8) -> Result<(), DumpError> {
        if text.len() >= LONGEST {
            return Err(self.fault(format!("more than {LONGEST} bytes in one value")));
        }
        text.push(byte);
        Ok(())
    }

    fn skip_line(&mut self) -> Result<(), DumpError> {
        while let Some(byte) = self.peek()? {
            self.advance();
            if byte == b'\n' {
                break;
            }
        }
        Ok(())
    }

    /// Passes blanks and comments; the next byte, or a `-` that has been passed. A comment tells which program has written this.
    fn skip_blank(&mut self) -> Result<Option<u8>, DumpError> {
        loop {
            match self.peek()? {
                Some(byte) if byte.is_ascii_whitespace() => self.advance(),
                Some(b'#') => self.skip_line()?,
                Some(b'-') => {
                    self.advance();
                    if self.peek()? == Some(b'-') {
                        let mut text = Vec::new();
                        while let Some(byte) = self.peek()?.filter(|byte| *byte != b'\n') {
                            self.advance();
                            if text.len() < 200 {
                                text.push(byte);
                            }
                        }
                        let text = String::from_utf8_lossy(&text);
                        self.mysql |= text.contains("MySQL dump") || text.contains("MariaDB dump");
                    } else {
                        return Ok(Some(b'-')); // a sign; what follows is a number
                    }
                }
                Some(b'/') => {
                    self.advance();
                    if self.peek()? == Some(b'*') {
                        self.skip_comment()?;
                    }
                }
                other => return Ok(other),
            }
        }
    }

    fn skip_comment(&mut self) -> Result<(), DumpError> {
        let mut last = 0;
        loop {
            let byte = self.next()?;
            if (last, byte) == (b'*', b'/') {
                return Ok(());
            }
            last = byte;
        }
    }

    /// Passes everything up to the `;` that ends the statement.
    fn skip_statement(&mut self) -> Result<(), DumpError> {
        let mut last = 0;
        while let Some(byte) = self.skip_blank()? {
            match byte {
                b';' => {
                    self.advance();
                    return Ok(());
                }
                b'\'' | b'"' | b'`' => drop(self.quoted(matches!(last, b'E' | b'e'))?),
                b'$' => self.dollar()?,
                b'-' => {}
                _ => self.advance(),
            }
            last = byte;
        }
        Ok(())
    }

    /// A text of PostgreSQL between `$tag$` and `$tag$`.
    fn dollar(&mut self) -> Result<(), DumpError> {
        self.advance();
        let mut tag = vec![b'$'];
        while let Some(byte) = self.peek()?.filter(|byte| is_word(*byte) && *byte != b'$') {
            self.advance();
            self.push(&mut tag, byte)?;
        }
        if self.peek()? != Some(b'$') {
            return Ok(());
        }
        self.advance();
        tag.push(b'$');
        let mut seen = Vec::new();
        while !seen.ends_with(&tag) {
            seen.push(self.next()?);
            if seen.len() > 2 * tag.len() {
                seen.drain(..tag.len());
            }
        }
        Ok(())
    }

    fn word(&mut self) -> Result<String, DumpError> {
        let mut text = Vec::new();
        while let Some(byte) = self.peek()?.filter(|byte| is_word(*byte)) {
            self.advance();
            self.push(&mut text, byte)?;
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// A literal or a quoted name, of either program; with `escapes` it is an `E'..'`.
    fn quoted(&mut self, escapes: bool) -> Result<Vec<u8>, DumpError> {
        let quote = self.next()?;
        self.mysql |= quote == b'`';
        let mut text = Vec::new();
        loop {
            match self.next()? {
                b'\\' if (self.mysql || escapes) && quote == b'\'' => {
                    let byte = escape(self.next()?);
                    self.push(&mut text, byte)?;
                }
                byte if byte == quote => {
                    if self.peek()? != Some(quote) {
                        return Ok(text);
                    }
                    self.advance();
                    self.push(&mut text, quote)?;
                }
                byte => self.push(&mut text, byte)?,
            }
        }
    }

    /// A name, quoted or not, without what stands before its last dot.
    fn name(&mut self) -> Result<String, DumpError> {
        loop {
            let name = match self.skip_blank()? {
                Some(b'"' | b'`') => String::from_utf8_lossy(&self.quoted(false)?).into_owned(),
                _ => self.word()?,
            };
            if name.is_empty() {
                return Err(self.fault("a name is missing"));
            }
            if self.peek()? != Some(b'.') {
                return Ok(name);
            }
            self.advance();
        }
    }

    /// `(name, name ...)`; no columns where there is no parenthesis.
    fn names(&mut self) -> Result<Vec<String>, DumpError> {
        let mut names = Vec::new();
        if self.skip_blank()? != Some(b'(') {
            return Ok(names);
        }
        self.advance();
        loop {
            names.push(self.name()?);
            if names.len() > MOST_COLUMNS {
                return Err(self.fault("too many columns"));
            }
            match self.skip_blank()? {
                Some(b',') => self.advance(),
                Some(b')') => {
                    self.advance();
                    return Ok(names);
                }
                _ => return Err(self.fault("neither `,` nor `)` in a list of columns")),
            }
        }
    }

    /// `CREATE TABLE name ( column type ..., KEY ..., ... )`
    fn create(&mut self) -> Result<(), DumpError> {
        self.skip_blank()?;
        if !self.word()?.eq_ignore_ascii_case("TABLE") {
            return self.skip_statement();
        }
        let mut table = self.name()?;
        if table.eq_ignore_ascii_case("IF") {
            self.name()?;
            self.name()?;
            table = self.name()?;
        }
        let mut columns = Vec::new();
        if self.skip_blank()? == Some(b'(') {
            self.advance();
            let mut more = true;
            while more && columns.len() < MOST_COLUMNS {
                let quoted = matches!(self.skip_blank()?, Some(b'"' | b'`'));
                let name = self.name()?;
                const KEYS: [&str; 9] = [
                    "PRIMARY",
                    "UNIQUE",
                    "KEY",
                    "INDEX",
                    "CONSTRAINT",
                    "FOREIGN",
                    "CHECK",
                    "FULLTEXT",
                    "EXCLUDE",
                ];
                if quoted || !KEYS.iter().any(|key| name.eq_ignore_ascii_case(key)) {
                    columns.push(name);
                }
                more = self.skip_definition()?;
            }
        }
        if self.columns.len() < MOST_TABLES {
            self.columns.insert(table, columns);
        }
        self.skip_statement()
    }

    /// Passes the rest of a column's definition; `true` where another follows.
    fn skip_definition(&mut self) -> Result<bool, DumpError> {
        let mut depth = 0_u32;
        loop {
            match self.skip_blank()? {
                Some(b',') if depth == 0 => {
                    self.advance();
                    return Ok(true);
                }
                Some(b')') if depth == 0 => {
                    self.advance();
                    return Ok(false);
                }
                Some(b'\'' | b'"' | b'`') => drop(self.quoted(false)?),
                Some(b'-') => {}
                Some(byte) => {
                    depth = match byte {
                        b'(' => depth.saturating_add(1),
                        b')' => depth.saturating_sub(1),
                        _ => depth,
                    };
                    self.advance();
                }
                None => return Err(self.fault("it ends here")),
            }
        }
    }

    /// `COPY table (columns) FROM stdin;`, lines, `\.`
    fn copy(&mut self, import: &mut Import, each: &mut dyn FnMut(u64)) -> Result<(), DumpError> {
        let table = self.name()?;
        let mut columns = self.names()?;
        if columns.is_empty() {
            columns = self.columns.get(&table).cloned().unwrap_or_default();
        }
        self.skip_statement()?;
        self.skip_line()?;
        loop {
            let mut line = Vec::new();
            loop {
                match self.next()? {
                    b'\n' => break,
                    byte => self.push(&mut line, byte)?,
                }
            }
            let line = line.strip_suffix(b"\r").unwrap_or(&line);
            if line == b"\\." {
                return Ok(());
            }
            if import.wants(&table) {
                import.row(&table, &copied_row(&columns, line));
                each(self.at);
            }
        }
    }

    /// `INSERT INTO table (columns) VALUES (...), (...);`
    fn insert(&mut self, import: &mut Import, each: &mut dyn FnMut(u64)) -> Result<(), DumpError> {
        self.skip_blank()?;
        let mut word = self.word()?;
        while !word.eq_ignore_ascii_case("INTO") {
            if word.is_empty() {
                return Err(self.fault("INSERT without INTO"));
            }
            self.skip_blank()?;
            word = self.word()?; // IGNORE, DELAYED
        }
        let table = self.name()?;
        let mut columns = self.names()?;
        if columns.is_empty() {
            columns = self.columns.get(&table).cloned().unwrap_or_default();
        }
        self.skip_blank()?;
        if !import.wants(&table) || !self.word()?.eq_ignore_ascii_case("VALUES") {
            return self.skip_statement();
        }
        if columns.is_empty() {
            let problem = format!("INSERT INTO {table} names no columns, and no CREATE TABLE does");
            return Err(self.fault(problem));
        }
        loop {
            let values = self.values()?;
            let row = Row { values: columns.iter().cloned().zip(values).collect() };
            import.row(&table, &row);
            each(self.at);
            match self.skip_blank()? {
                Some(b',') => self.advance(),
                _ => return self.skip_statement(),
            }
        }
    }

    /// `(value, value ...)`
    fn values(&mut self) -> Result<Vec<Option<Vec<u8>>>, DumpError> {
        if self.skip_blank()? != Some(b'(') {
            return Err(self.fault("VALUES without `(`"));
        }
        self.advance();
        let mut values = Vec::new();
        loop {
            values.push(self.value()?);
            if values.len() > MOST_COLUMNS {
                return Err(self.fault("too many values"));
            }
            match self.skip_blank()? {
                Some(b',') => self.advance(),
                Some(b')') => {
                    self.advance();
                    return Ok(values);
                }
                _ => return Err(self.fault("neither `,` nor `)` behind a value")),
            }
        }
    }

    fn value(&mut self) -> Result<Option<Vec<u8>>, DumpError> {
        // `skip_blank` has passed the sign of a negative number.
        let mut text = Vec::new();
        loop {
            match self.skip_blank()? {
                // `_binary '..'` is as it is.
                Some(b'\'') => return self.quoted(matches!(&*text, b"E" | b"e")).map(Some),
                Some(b'-') => text.push(b'-'),
                Some(byte) if is_word(byte) || matches!(byte, b'.' | b'+' | b':') => {
                    self.advance();
                    self.push(&mut text, byte)?;
                }
                _ => break,
            }
        }
        if text.eq_ignore_ascii_case(b"NULL") {
            return Ok(None);
        }
        if text.is_empty() {
            return Err(self.fault("a value is missing"));
        }
        Ok(Some(text))
    }
}

#[cfg(test)]
mod tests;
