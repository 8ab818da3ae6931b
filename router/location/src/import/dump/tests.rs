//! Dumps as the programs write them, and bytes that are none.

use proptest::prelude::*;

use super::super::{Options, Skip};
use super::*;

fn import() -> Import {
    Import::new(Options {
        location: "location".into(),
        subscriber: "subscriber".into(),
        domain: None,
        utc_offset_min: 0,
        now_ms: 1_900_000_000_000,
    })
}

fn read(text: &[u8]) -> Result<Import, DumpError> {
    let (mut import, mut last) = (import(), 0);
    read_dump(&mut &*text, &mut import, &mut |at| {
        assert!(at > last && at <= text.len() as u64);
        last = at;
    })?;
    Ok(import)
}

fn contacts(import: &Import) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let all = import.bindings.iter();
    all.flat_map(|(aor, all)| all.iter().map(move |b| (text(aor), text(b.contact())))).collect()
}

const PG_DUMP: &str = "\
--
-- PostgreSQL database dump
--

\\restrict AbC
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
CREATE FUNCTION public.concat(text, text) RETURNS text LANGUAGE sql AS $_$SELECT $1 || ';''$_$;
CREATE TABLE public.location (
    id integer NOT NULL,
    ruid character varying(64) DEFAULT ''::character varying NOT NULL,
    q real DEFAULT '1.0'::real NOT NULL
);
COPY public.location (id, username, domain, contact, received, expires, q, user_agent) FROM stdin;
1\talice\texample.com\tsip:alice@10.0.0.1\t\\N\t2030-03-18 00:00:00\t-1\tA\\tB\\\\C
2\tbob\texample.com\tsip:bob@10.0.0.2\tsip:192.0.2.7:4\t2030-03-01 00:00:00\t0.5\t
\\.

COPY public.other (text) FROM stdin;
INSERT INTO location VALUES ('no');
\\.
INSERT INTO public.location (username, domain, contact, expires) VALUES ('c''d', 'e.com', \
 'sip:c@h', 1900000001);
INSERT INTO public.subscriber (username, domain, password) VALUES ('alice', 'e.com', E'a\\'b');
";

#[test]
fn r_u3_a_dump_of_pg_dump_is_read() {
    let import = read(PG_DUMP.as_bytes()).unwrap();
    let expected = [
        ("alice@example.com".to_owned(), "sip:alice@10.0.0.1".to_owned()),
        ("c'd@e.com".to_owned(), "sip:c@h".to_owned()),
    ];
    assert_eq!(contacts(&import), expected);
    let alice = import.bindings.values().next().unwrap().first().unwrap();
    assert_eq!(alice.fields().user_agent, b"A\tB\\C");
    assert_eq!(import.rows, 4);
    let skipped: Vec<_> = import.skipped.iter().collect();
    let bob = (1, "bob@example.com sip:bob@10.0.0.2".to_owned());
    assert_eq!(skipped, [(&("location", Skip::Expired), &bob)]);
    assert_eq!(import.users[0].password.as_deref(), Some("a'b"));
}

const MYSQLDUMP: &str = "\
-- MySQL dump 10.13  Distrib 8.0.36, for Linux (x86_64)
/*!40101 SET NAMES utf8mb4 */;
DROP TABLE IF EXISTS `location`;
CREATE TABLE `location` (
  `contact_id` bigint unsigned NOT NULL,
  `username` char(64) NOT NULL DEFAULT '',
  `domain` char(64) DEFAULT NULL,
  `contact` text NOT NULL,
  `expires` int unsigned NOT NULL,
  `q` float(10,2) NOT NULL DEFAULT '1.00',
  `key` char(1) DEFAULT ',)',
  PRIMARY KEY (`contact_id`),
  KEY `who` (`username`,`domain`)
) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4;
INSERT INTO `location` VALUES (1,'al\\'ice','d.com','sip:1@h;x=\\\"y\\\"',1900000001,-1.00,'a'),\
(2,'bob',NULL,'sip:2@h',1900000001,0.50,NULL),(3,'carol','d.com','sip:3@h',1900000001,1e0,';');
INSERT INTO `acc` VALUES (1,'INSERT INTO `location` VALUES (9)');
";

#[test]
fn r_u3_a_dump_of_mysqldump_is_read() {
    let import = read(MYSQLDUMP.as_bytes()).unwrap();
    let found = contacts(&import);
    let expected = [
        ("al'ice@d.com".to_owned(), "sip:1@h;x=\"y\"".to_owned()),
        ("carol@d.com".to_owned(), "sip:3@h".to_owned()),
    ];
    // Whether a URI may hold quotes is the URI's business, not the dump's.
    let readable = found.iter().all(|pair| expected.contains(pair));
    assert!(readable && found.contains(&expected[1]), "{found:?} {:?}", import.skipped);
    assert_eq!(import.rows, 3);
    assert!(import.skipped.contains_key(&("location", Skip::Missing("domain"))));
}

#[test]
fn a_dump_that_breaks_off_says_where() {
    for (text, problem) in [
        ("COPY location (a) FROM stdin;\n1\n", "byte 32: it ends here"),
        ("INSERT INTO location (a) VALUES ('x", "it ends here"),
        ("INSERT INTO location (a) VALUES ('x' 'y')", "neither `,` nor `)`"),
        ("INSERT INTO location (a) VALUES ()", "a value is missing"),
        ("INSERT INTO location VALUES (1)", "no CREATE TABLE does"),
        ("INSERT INTO location (a b) VALUES (1)", "list of columns"),
    ] {
        let fault = read(text.as_bytes()).unwrap_err().to_string();
        assert!(fault.contains(problem), "{text}: {fault}");
    }
    let long = format!("INSERT INTO location (a) VALUES ('{}", "x".repeat(LONGEST + 1));
    assert!(read(long.as_bytes()).unwrap_err().to_string().contains("more than 1048576 bytes"));
}

proptest! {
    #[test]
    fn any_bytes_are_a_dump_or_a_fault(bytes: Vec<u8>) {
        let _ = read(&bytes);
    }

    #[test]
    fn a_damaged_dump_is_read_or_refused(at: proptest::sample::Index, byte: u8, mysql: bool) {
        let text = if mysql { MYSQLDUMP } else { PG_DUMP };
        let mut bytes = text.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = read(&bytes);
        let _ = read(&bytes[..at]);
    }
}
