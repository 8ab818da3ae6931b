//! Bencode, the notation of the ng protocol. What comes from a node is read strictly and within
//! limits; what is written is canonical: keys in order, each once.
//!
//! Keys may come in any order, as rtpengine writes them in the order it thinks of them.

use std::collections::BTreeMap;

/// Longest text that is read: what a UDP datagram holds, octets.
pub const MOST_BYTES: usize = 65_507;
/// Most values of one text, those in lists and dictionaries included.
pub const MOST_VALUES: usize = 16_384;
/// Most levels of lists and dictionaries.
pub const MOST_DEPTH: usize = 12;
/// Digits of the largest length there can be.
const MOST_LENGTH_DIGITS: usize = 5;
/// A sign and the digits of the largest integer.
const MOST_INTEGER_DIGITS: usize = 20;

/// A dictionary.
pub type Dict = BTreeMap<Vec<u8>, Value>;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// `i42e`
    Integer(i64),
    /// `4:text`
    Bytes(Vec<u8>),
    /// `l...e`
    List(Vec<Value>),
    /// `d...e`
    Dict(Dict),
}

/// Why something is no bencode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It ends too early.
    #[error("cut off")]
    Short,
    /// Something else should stand there.
    #[error("not bencode")]
    Syntax,
    /// A number with needless zeros, or too large.
    #[error("no canonical number")]
    Number,
    /// A dictionary has a key twice.
    #[error("a key stands twice")]
    Twice,
    /// More octets, values or levels than may be.
    #[error("too large")]
    Limit,
    /// Something follows the value.
    #[error("more than one value")]
    Rest,
}

impl Value {
    /// Reads one value and nothing else.
    ///
    /// # Errors
    /// See [`Fault`].
    pub fn read(text: &[u8]) -> Result<Value, Fault> {
        if text.len() > MOST_BYTES {
            return Err(Fault::Limit);
        }
        let mut reader = Reader { rest: text, values: 0 };
        let value = reader.value(0)?;
        if reader.rest.is_empty() { Ok(value) } else { Err(Fault::Rest) }
    }

    /// Appends it.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Integer(number) => out.extend_from_slice(format!("i{number}e").as_bytes()),
            Value::Bytes(bytes) => write_bytes(bytes, out),
            Value::List(items) => {
                out.push(b'l');
                items.iter().for_each(|item| item.write(out));
                out.push(b'e');
            }
            Value::Dict(dict) => {
                out.push(b'd');
                for (key, value) in dict {
                    write_bytes(key, out);
                    value.write(out);
                }
                out.push(b'e');
            }
        }
    }

    /// As octets.
    #[must_use]
    pub fn octets(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    /// What a dictionary has under this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.dict()?.get(key.as_bytes())
    }

    /// The dictionary it is.
    #[must_use]
    pub fn dict(&self) -> Option<&Dict> {
        if let Value::Dict(dict) = self { Some(dict) } else { None }
    }

    /// The list it is; empty: it is none.
    #[must_use]
    pub fn list(&self) -> &[Value] {
        if let Value::List(list) = self { list } else { &[] }
    }

    /// The octets it is; empty: it is none.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        if let Value::Bytes(bytes) = self { bytes } else { &[] }
    }

    /// The integer it is.
    #[must_use]
    pub fn integer(&self) -> Option<i64> {
        if let Value::Integer(number) = self { Some(*number) } else { None }
    }

    /// The integer it is, where it is none below zero.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        self.integer().and_then(|number| u64::try_from(number).ok())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Value {
        Value::Bytes(bytes.to_vec())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Bytes(text.as_bytes().to_vec())
    }
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(bytes.len().to_string().as_bytes());
    out.push(b':');
    out.extend_from_slice(bytes);
}

struct Reader<'a> {
    rest: &'a [u8],
    values: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, Fault> {
        self.values += 1;
        if self.values > MOST_VALUES || depth > MOST_DEPTH {
            return Err(Fault::Limit);
        }
        match *self.rest.first().ok_or(Fault::Short)? {
            b'i' => self.integer().map(Value::Integer),
            b'0'..=b'9' => self.bytes().map(|bytes| Value::Bytes(bytes.to_vec())),
            b'l' => {
                self.skip(1);
                let mut items = Vec::new();
                while !self.ends()? {
                    items.push(self.value(depth + 1)?);
                }
                Ok(Value::List(items))
            }
            b'd' => {
                self.skip(1);
                let mut dict = Dict::new();
                while !self.ends()? {
                    let key = self.bytes()?.to_vec();
                    let value = self.value(depth + 1)?;
                    if dict.insert(key, value).is_some() {
                        return Err(Fault::Twice);
                    }
                }
                Ok(Value::Dict(dict))
            }
            _ => Err(Fault::Syntax),
        }
    }

    /// Takes the end of a list or dictionary, where it is next.
    fn ends(&mut self) -> Result<bool, Fault> {
        let ends = *self.rest.first().ok_or(Fault::Short)? == b'e';
        if ends {
            self.skip(1);
        }
        Ok(ends)
    }

    fn integer(&mut self) -> Result<i64, Fault> {
        self.skip(1);
        let digits = self.until(b'e', MOST_INTEGER_DIGITS)?;
        let number: i64 = text(digits)?.parse().map_err(|_| Fault::Number)?;
        // `+1`, `-0` and `007` are read by that, too.
        if number.to_string().as_bytes() == digits { Ok(number) } else { Err(Fault::Number) }
    }

    fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        if !self.rest.first().ok_or(Fault::Short)?.is_ascii_digit() {
            return Err(Fault::Syntax);
        }
        let digits = self.until(b':', MOST_LENGTH_DIGITS)?;
        let len: usize = text(digits)?.parse().map_err(|_| Fault::Number)?;
        if len.to_string().as_bytes() != digits {
            return Err(Fault::Number);
        }
        let bytes = self.rest.get(..len).ok_or(Fault::Short)?;
        self.skip(len);
        Ok(bytes)
    }

    /// What stands before that octet, which is skipped.
    fn until(&mut self, end: u8, most: usize) -> Result<&'a [u8], Fault> {
        let window = self.rest.get(..self.rest.len().min(most + 1)).unwrap_or_default();
        let Some(at) = window.iter().position(|octet| *octet == end) else {
            return Err(if window.len() > most { Fault::Number } else { Fault::Short });
        };
        let found = window.get(..at).unwrap_or_default();
        self.skip(at + 1);
        Ok(found)
    }

    fn skip(&mut self, octets: usize) {
        self.rest = self.rest.get(octets..).unwrap_or_default();
    }
}

fn text(digits: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(digits).map_err(|_| Fault::Number)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let bytes = proptest::collection::vec(any::<u8>(), 0..12);
        let leaf = prop_oneof![
            any::<i64>().prop_map(Value::Integer),
            bytes.clone().prop_map(Value::Bytes),
        ];
        leaf.prop_recursive(5, 64, 6, move |inner| {
            let entry = (bytes.clone(), inner.clone());
            prop_oneof![
                proptest::collection::vec(inner, 0..6).prop_map(Value::List),
                proptest::collection::vec(entry, 0..6)
                    .prop_map(|entries| Value::Dict(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(value in any_value()) {
            prop_assert_eq!(Value::read(&value.octets()), Ok(value));
        }

        #[test]
        fn whatever_is_read_means_the_same_when_it_is_written(
            text in proptest::collection::vec(
                prop_oneof![Just(b'd'), Just(b'l'), Just(b'i'), Just(b'e'), Just(b':'), b'0'..=b'9'],
                0..40,
            )
        ) {
            if let Ok(value) = Value::read(&text) {
                let again = value.octets();
                prop_assert_eq!(again.len(), text.len());
                prop_assert_eq!(Value::read(&again), Ok(value));
            }
        }

        #[test]
        fn a_text_cut_off_anywhere_is_refused(value in any_value(), cut in any::<usize>()) {
            let octets = value.octets();
            let cut = cut % octets.len();
            prop_assert!(Value::read(&octets[..cut]).is_err());
        }
    }

    #[test]
    fn keys_are_written_in_order_and_read_in_any() {
        let text = b"d6:result2:ok3:sdp3:v=0e";
        let value = Value::read(text).unwrap();
        assert_eq!(value.octets(), text);
        assert_eq!(Value::read(b"d3:sdp3:v=06:result2:oke"), Ok(value));
    }

    #[test]
    fn what_is_not_canonical_is_refused() {
        for (text, fault) in [
            (&b"i01e"[..], Fault::Number),
            (b"i-0e", Fault::Number),
            (b"i+1e", Fault::Number),
            (b"ie", Fault::Number),
            (b"i9223372036854775808e", Fault::Number),
            (b"i1", Fault::Short),
            (b"02:ab", Fault::Number),
            (b"999999:", Fault::Number),
            (b"3:ab", Fault::Short),
            (b"d1:a1:b1:a1:ce", Fault::Twice),
            (b"di1e1:ae", Fault::Syntax),
            (b"d1:ae", Fault::Syntax),
            (b"1:ab", Fault::Rest),
            (b"x", Fault::Syntax),
            (b"", Fault::Short),
        ] {
            assert_eq!(Value::read(text), Err(fault), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn levels_values_and_octets_have_limits() {
        let nested = |levels| [vec![b'l'; levels], vec![b'e'; levels]].concat();
        assert!(Value::read(&nested(MOST_DEPTH + 1)).is_ok());
        assert_eq!(Value::read(&nested(MOST_DEPTH + 2)), Err(Fault::Limit));
        let many = |values: usize| [&b"l"[..], &b"0:".repeat(values), b"e"].concat();
        assert!(Value::read(&many(MOST_VALUES - 1)).is_ok());
        assert_eq!(Value::read(&many(MOST_VALUES)), Err(Fault::Limit));
        assert_eq!(Value::read(&vec![b'l'; MOST_BYTES + 1]), Err(Fault::Limit));
    }
}
