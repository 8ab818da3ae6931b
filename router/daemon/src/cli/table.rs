//! Tables for people: columns as wide as their widest cell, two blanks between.

/// Lays out rows under a heading; without rows there is no heading either.
pub(super) fn layout<const N: usize>(heading: [&str; N], rows: &[[String; N]]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let mut widths = heading.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    line(&mut out, heading.into_iter(), &widths);
    for row in rows {
        line(&mut out, row.iter().map(String::as_str), &widths);
    }
    out
}

fn line<'a>(out: &mut String, cells: impl Iterator<Item = &'a str>, widths: &[usize]) {
    let mut text = String::new();
    for (cell, width) in cells.zip(widths) {
        text.push_str(&format!("{cell:<width$}  ", width = *width));
    }
    out.push_str(text.trim_end());
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [["a".to_owned(), "1".to_owned()], ["bcd".to_owned(), String::new()]];
        assert_eq!(layout(["X", "NO"], &rows), "X    NO\na    1\nbcd\n");
        assert_eq!(layout(["X", "NO"], &[]), "");
    }
}
