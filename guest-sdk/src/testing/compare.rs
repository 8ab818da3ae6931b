//! What a failed expectation shows: expected and actual side by side.

/// Widest left column, in characters; longer lines push the bar to the right.
const COLUMN_MAX: usize = 48;

/// Two texts, line by line, each under its title.
pub(super) fn side_by_side(
    (left_title, left): (&str, &str),
    (right_title, right): (&str, &str),
) -> String {
    let width = left
        .lines()
        .chain([left_title])
        .map(|line| line.chars().count())
        .max();
    let width = width.unwrap_or(0).min(COLUMN_MAX);
    let mut text = format!("{left_title:width$} | {right_title}\n");
    text.push_str(&format!("{:-<width$}-+-{:-<width$}\n", "", ""));
    let (mut left, mut right) = (left.lines(), right.lines());
    loop {
        match (left.next(), right.next()) {
            (None, None) => return text,
            (left, right) => {
                let (left, right) = (left.unwrap_or(""), right.unwrap_or(""));
                text.push_str(format!("{left:width$} | {right}").trim_end());
                text.push('\n');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_texts_are_shown_in_columns() {
        let text = side_by_side(
            ("expected", "403"),
            ("sent", "SIP/2.0 404 Not Found\nTo: <sip:a>"),
        );
        assert_eq!(
            text,
            "expected | sent\n\
             ---------+---------\n\
             403      | SIP/2.0 404 Not Found\n         | To: <sip:a>\n"
        );
    }
}
