//! The embedded store on a disk that is full, read-only, or has damaged it, under a running router:
//! a REGISTER that cannot be stored is refused, look-ups go on, what was acknowledged stays.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt as _;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use viaduct_tests::or_skip;
use viaduct_tests::support::disk::{NO_DISK, SmallDisk};
use viaduct_tests::support::net::{Transport, own_address};
use viaduct_tests::support::place::router_address;
use viaduct_tests::support::policy;
use viaduct_tests::support::router::{self, Router, Setup};
use viaduct_tests::support::sip_client::{PATIENCE, SipClient};
use viaduct_tests::support::sip_text::{Received, Request};

const DOMAIN: &str = "disk.example";
const STORE: &str = "location.redb";
/// Room for a store with a few thousand bindings, KiB.
const ROOM: u32 = 6_144;
/// Users that register at first.
const SOME: usize = 200;
/// Users that do not fit on any disk of this test.
const TOO_MANY: usize = 60_000;

/// A router whose store is on the disk.
fn start(disk: &SmallDisk) -> Result<Router> {
    let listen = router_address();
    let mut setup = Setup::new(listen, DOMAIN, policy::shipped("registrar")?);
    setup.store = format!("file = \"{}\"\n", disk.path().join(STORE).display());
    setup.launcher = disk.enter();
    Router::start(&setup)
}

fn client(router: &Router) -> Result<SipClient> {
    SipClient::new(Transport::Udp, (own_address(), 0).into(), router.listen())
}

/// What phones were told: user and contact.
type Acknowledged = BTreeMap<String, String>;

fn register(phone: &mut SipClient, number: usize, known: &mut Acknowledged) -> Result<Received> {
    let user = format!("u{number}");
    let contact = format!("sip:{user}@192.0.2.9:{}", 1_024 + number);
    let answer = phone.transact(&Request::register(&user, DOMAIN, &contact, 3_600))?;
    match answer.status() {
        Some(200) => drop(known.insert(user, contact)),
        Some(503) => {}
        _ => bail!("{user} got:\n{}", answer.text),
    }
    Ok(answer)
}

/// Everything that was acknowledged is found, with its contact.
fn check(router: &Router, known: &Acknowledged) -> Result<()> {
    let mut phone = client(router)?;
    for (user, contact) in known {
        let answer = phone.transact(&Request::fetch(user, DOMAIN))?;
        let found = answer.list("Contact");
        let is_it = found.len() == 1 && found.iter().all(|one| one.contains(contact.as_str()));
        ensure!(is_it, "{user} should have {contact}:\n{}", answer.text);
    }
    Ok(())
}

/// Registers until one is refused, which has to be by 503 with Retry-After.
fn until_refused(phone: &mut SipClient, from: usize, known: &mut Acknowledged) -> Result<()> {
    for number in from..TOO_MANY {
        let answer = register(phone, number, known)?;
        if answer.status() == Some(503) {
            ensure!(answer.header("Retry-After").is_some(), "{}", answer.text);
            return Ok(());
        }
    }
    bail!("{TOO_MANY} bindings fit on a full disk")
}

/// The router is asked again until it takes a REGISTER.
fn until_taken(router: &Router, number: usize, known: &mut Acknowledged) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    let mut phone = client(router)?;
    while register(&mut phone, number, known)?.status() != Some(200) {
        ensure!(Instant::now() < deadline, "no REGISTER is taken:\n{}", router.log());
    }
    Ok(())
}

/// A router on that disk, and a phone that has registered some users there.
fn with_some(disk: &SmallDisk) -> Result<(Router, SipClient, Acknowledged)> {
    let router = start(disk)?;
    let (mut phone, mut known) = (client(&router)?, Acknowledged::new());
    for number in 0..SOME {
        ensure!(register(&mut phone, number, &mut known)?.status() == Some(200));
    }
    Ok((router, phone, known))
}

#[test]
fn a_full_disk_refuses_registers_keeps_what_was_acknowledged_and_serves_again_with_room()
-> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let disk = or_skip!(SmallDisk::new(ROOM)?, "{NO_DISK}");
    let (mut router, mut phone, mut known) = with_some(&disk)?;
    disk.fill()?;
    until_refused(&mut phone, SOME, &mut known)?;
    ensure!(router.cli(&["status"])?.contains("No space left"), "{}", router.cli(&["status"])?);
    check(&router, &known)?;
    // A refresh of a phone the router knows is refused as well, and its binding stays.
    until_refused(&mut phone, 0, &mut known)?;
    check(&router, &known)?;
    // Also over a crash, on the disk that is still full.
    router.kill_hard()?;
    router.start_again()?;
    check(&router, &known)?;
    disk.free()?;
    until_taken(&router, TOO_MANY, &mut known)?;
    router.kill_hard()?;
    router.start_again()?;
    check(&router, &known)?;
    println!("{} bindings were acknowledged and found", known.len());
    router.stop()
}

#[test]
fn a_disk_that_turns_read_only_refuses_registers_and_serves_again_without_a_restart() -> Result<()>
{
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let disk = or_skip!(SmallDisk::new(ROOM)?, "{NO_DISK}");
    let (mut router, mut phone, mut known) = with_some(&disk)?;
    // After a fault the file is closed: only then can this disk be made read-only.
    disk.fill()?;
    until_refused(&mut phone, SOME, &mut known)?;
    disk.remount("ro")?;
    let refused = register(&mut phone, TOO_MANY, &mut known)?;
    ensure!(refused.status() == Some(503), "{}", refused.text);
    ensure!(refused.header("Retry-After").is_some(), "{}", refused.text);
    check(&router, &known)?;
    disk.remount("rw")?;
    disk.free()?;
    until_taken(&router, TOO_MANY, &mut known)?;
    check(&router, &known)?;
    router.stop()
}

#[test]
fn a_start_on_a_read_only_disk_says_so() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let disk = or_skip!(SmallDisk::new(ROOM)?, "{NO_DISK}");
    let mut router = start(&disk)?;
    let (mut phone, mut known) = (client(&router)?, Acknowledged::new());
    until_taken(&router, 0, &mut known)?;
    register(&mut phone, 1, &mut known)?;
    router.stop()?;
    disk.remount("ro")?;
    let said = match router.start_again() {
        Ok(()) => bail!("it started"),
        Err(fault) => format!("{fault:#}"),
    };
    ensure!(said.contains(STORE) && said.contains("Read-only file system"), "{said}");
    disk.remount("rw")?;
    router.start_again()?;
    check(&router, &known)
}

#[test]
fn a_damaged_store_is_told_with_its_repair_which_saves_what_can_be_read() -> Result<()> {
    or_skip!(router::binary(), "{}", router::NO_BINARY);
    let disk = or_skip!(SmallDisk::new(ROOM)?, "{NO_DISK}");
    let (mut router, _, mut known) = with_some(&disk)?;
    router.stop()?;
    // One page of the table goes bad.
    let file = OpenOptions::new().read(true).write(true).open(disk.file(STORE))?;
    let mut content = vec![0; usize::try_from(file.metadata()?.len())?];
    file.read_exact_at(&mut content, 0)?;
    let needle = b"sip:u100@192.0.2.9";
    let places = content.windows(needle.len()).enumerate();
    let places: Vec<usize> = places.filter(|(_, w)| w == needle).map(|(at, _)| at).collect();
    ensure!(!places.is_empty(), "the binding is not in the file");
    for at in places {
        file.write_all_at(&[0xff; 64], u64::try_from(at)?)?;
    }
    drop(file);
    let said = match router.start_again() {
        Ok(()) => bail!("it started"),
        Err(fault) => format!("{fault:#}"),
    };
    ensure!(said.contains(STORE) && said.contains("viaduct location repair"), "{said}");
    let report = router.offline(&["location", "repair"])?;
    router.start_again()?;
    let kept: usize = {
        let mut phone = client(&router)?;
        let mut kept = 0;
        for (user, contact) in &known {
            let answer = phone.transact(&Request::fetch(user, DOMAIN))?;
            kept += usize::from(answer.text.contains(contact.as_str()));
        }
        kept
    };
    let told = report.split_whitespace().find_map(|word| word.parse::<usize>().ok());
    let told = told.with_context(|| format!("no number in: {report}"))?;
    ensure!(kept == told && kept > SOME / 2, "{kept} of {SOME} are there, after: {report}");
    until_taken(&router, TOO_MANY, &mut known)
}
