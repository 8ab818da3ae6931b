//! Random REGISTERs against a naive model of RFC 3261 10.3.

use proptest::prelude::*;

use super::*;

/// What a REGISTER of the test says.
#[derive(Clone, Debug)]
struct Step {
    call: u8,
    cseq: u32,
    wait_s: u64,
    what: What,
}

#[derive(Clone, Debug)]
enum What {
    Query,
    Star,
    /// Contact number and interval in seconds.
    Contacts(Vec<(u8, u32)>),
}

#[derive(Clone, Debug, PartialEq)]
struct Row {
    contact: u8,
    call: u8,
    cseq: u32,
    ends_ms: u64,
    modified_ms: u64,
}

/// The whole rule in one go: `None` is a refusal.
fn model(rows: &[Row], step: &Step, now_ms: u64) -> Option<Vec<Row>> {
    let mut rows: Vec<Row> = rows.iter().filter(|row| row.ends_ms > now_ms).cloned().collect();
    let mut fresh = Vec::new();
    match &step.what {
        What::Query => {}
        What::Star => {
            if rows.iter().any(|row| row.call == step.call && row.cseq >= step.cseq) {
                return None;
            }
            rows.clear();
        }
        What::Contacts(contacts) => {
            for (contact, expires_s) in contacts {
                let found = rows.iter().position(|row| row.contact == *contact);
                let row = Row {
                    contact: *contact,
                    call: step.call,
                    cseq: step.cseq,
                    ends_ms: now_ms + u64::from(*expires_s) * 1000,
                    modified_ms: now_ms,
                };
                let old = found.and_then(|at| rows.get(at));
                let old = old.filter(|old| old.call == step.call && !fresh.contains(contact));
                if let Some(old) = old {
                    if old.cseq > step.cseq {
                        return None;
                    }
                    if old.cseq == step.cseq && now_ms - old.modified_ms <= 20_000 {
                        fresh.push(*contact);
                        continue;
                    }
                }
                fresh.push(*contact);
                match (found, *expires_s) {
                    (Some(at), 0) => drop(rows.remove(at)),
                    (Some(at), _) => rows[at] = row,
                    (None, 0) => {}
                    (None, _) => rows.push(row),
                }
            }
        }
    }
    Some(rows)
}

fn step() -> impl Strategy<Value = Step> {
    let contact = (0u8..4, prop_oneof![Just(0u32), 60u32..200]);
    let what = prop_oneof![
        1 => Just(What::Query),
        1 => Just(What::Star),
        8 => proptest::collection::vec(contact, 1..4).prop_map(What::Contacts),
    ];
    (0u8..3, 1u32..6, prop_oneof![Just(0u64), Just(1), 15u64..90], what)
        .prop_map(|(call, cseq, wait_s, what)| Step { call, cseq, wait_s, what })
}

fn lines(what: &What) -> Vec<String> {
    match what {
        What::Query => vec![],
        What::Star => vec!["Contact: *".into(), "Expires: 0".into()],
        What::Contacts(contacts) => contacts
            .iter()
            .map(|(contact, expires_s)| format!("Contact: <sip:{contact}@h>;expires={expires_s}"))
            .collect(),
    }
}

fn rows_of(desk: &Desk) -> Vec<Row> {
    let Some(set) = &desk.set else { return Vec::new() };
    set.live(desk.now_ms)
        .map(|binding| {
            let fields = binding.fields();
            Row {
                contact: fields.contact[4] - b'0',
                call: fields.call_id[0] - b'0',
                cseq: fields.cseq,
                ends_ms: fields.expires_ms,
                modified_ms: fields.modified_ms,
            }
        })
        .collect()
}

proptest! {
    #[test]
    fn r_g1_any_sequence_leaves_what_the_model_leaves(
        steps in proptest::collection::vec(step(), 1..30),
    ) {
        let mut desk = Desk::new();
        let mut rows = Vec::new();
        for step in steps {
            desk.now_ms += step.wait_s * 1000;
            let before = desk.set.clone();
            let lines = lines(&step.what);
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let result = desk.register(&step.call.to_string(), step.cseq, &lines);
            match model(&rows, &step, desk.now_ms) {
                Some(next) => {
                    let answer = result.expect("the model accepts it");
                    rows = next;
                    prop_assert_eq!(rows_of(&desk), rows.clone());
                    prop_assert_eq!(lines_of(&answer.headers, "Contact").len(), rows.len());
                }
                None => {
                    prop_assert_eq!(result.map_err(|refusal| refusal.status).err(), Some(400));
                    prop_assert_eq!(&desk.set, &before);
                    rows.retain(|row| row.ends_ms > desk.now_ms);
                }
            }
        }
    }

    #[test]
    fn any_contact_bytes_are_an_answer_or_a_refusal(
        contact in "[ -~]{0,60}", expires in "[ -~]{0,12}", path in "[ -~]{0,60}",
    ) {
        for flags in ["p1", "p2vM<x>o", "c1fM1"] {
            let mut desk = Desk::with_flags(flags);
            desk.trusted = true;
            let (contact, path) = (format!("Contact: {contact}"), format!("Path: {path}"));
            let expires = format!("Expires: {expires}");
            match desk.register("c", 1, &[&contact, &expires, &path, "Supported: path"]) {
                Ok(answer) => prop_assert!(text(&answer.headers).ends_with(" GMT\r\n")),
                Err(refusal) => prop_assert!(matches!(refusal.status, 400 | 503)),
            }
        }
    }
}
