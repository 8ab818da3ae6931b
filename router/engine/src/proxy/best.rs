//! Choosing the best final response (RFC 3261 16.7 step 6).

/// How much a final response is worth: lower is better. 6xx first (it speaks for the callee as a
/// whole), then the lowest class; within 4xx those that tell the caller how to try again.
fn rank(status: u16) -> (u8, u8, u16) {
    let class = (status / 100) as u8;
    let class_rank = if class == 6 { 0 } else { class };
    // RFC 3261 16.7 step 6: 401, 407, 415, 420, 484 are preferred in 4xx. 408 and 430 say least:
    // they only mean that a flow was dead.
    let within = match status {
        401 | 407 | 415 | 420 | 484 => 0,
        408 | 430 => 2,
        _ => 1,
    };
    (class_rank, within, status)
}

/// Index of the best of some final statuses; `None` where there is none.
pub(crate) fn best(statuses: impl Iterator<Item = u16>) -> Option<usize> {
    let ranked = statuses.enumerate().min_by_key(|(_, status)| rank(*status));
    ranked.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::best;

    fn pick(statuses: &[u16]) -> u16 {
        statuses[best(statuses.iter().copied()).unwrap()]
    }

    #[test]
    fn a_6xx_wins_over_everything() {
        assert_eq!(pick(&[404, 302, 603]), 603);
    }

    #[test]
    fn else_the_lowest_class_wins() {
        assert_eq!(pick(&[503, 404]), 404);
        assert_eq!(pick(&[486, 302]), 302);
    }

    #[test]
    fn in_4xx_what_helps_the_caller_wins() {
        assert_eq!(pick(&[404, 407]), 407);
        assert_eq!(pick(&[486, 401, 480]), 401);
        assert_eq!(pick(&[408, 486]), 486);
    }

    #[test]
    fn of_nothing_there_is_no_best() {
        assert_eq!(best(std::iter::empty()), None);
    }
}
