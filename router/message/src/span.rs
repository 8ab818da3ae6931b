//! A range of bytes in a message.

/// Half-open byte range. It outlives the buffer it points into, so every use checks its bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// First byte.
    pub start: u32,
    /// One past the last byte.
    pub end: u32,
}

impl Span {
    /// The bytes of `buffer` in this range; empty where the range does not fit.
    #[inline]
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        buffer.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// Length in bytes.
    #[inline]
    pub fn len(self) -> usize {
        self.end.saturating_sub(self.start) as usize
    }

    /// No bytes at all.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.end <= self.start
    }

    /// Where `part`, a slice of `buffer`, lies in it. Empty where it is not a slice of it.
    #[inline]
    pub fn locate(buffer: &[u8], part: &[u8]) -> Span {
        let base = buffer.as_ptr() as usize;
        let start = (part.as_ptr() as usize).wrapping_sub(base);
        match start.checked_add(part.len()) {
            Some(end) if end <= buffer.len() => Span { start: start as u32, end: end as u32 },
            _ => Span::default(),
        }
    }
}
