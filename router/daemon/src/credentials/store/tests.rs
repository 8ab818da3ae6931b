//! What the file keeps, lists and refuses.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::scratch::Scratch;

fn account(user: &str, realm: &str) -> Account {
    Account { realm: realm.into(), user: user.into() }
}

fn secrets(password: &str) -> Secrets {
    Secrets::of_password("alice", "a.example", password)
}

fn is_same(found: Option<Secrets>, expected: &Secrets) -> bool {
    found.is_some_and(|found| encode(&found) == encode(expected))
}

#[test]
fn users_stay_over_a_restart_and_are_changed_only_where_they_are() {
    let scratch = Scratch::new();
    let path = scratch.path().join("users.redb");
    let alice = account("alice", "a.example");
    let store = UserStore::open(&path).unwrap();
    assert!(store.find(&alice).unwrap().is_none());
    assert!(!store.replace(&alice, &secrets("x")).unwrap());
    assert!(!store.remove(&alice).unwrap());
    assert!(store.add(&alice, &secrets("1")).unwrap());
    assert!(!store.add(&alice, &secrets("2")).unwrap());
    assert!(is_same(store.find(&alice).unwrap(), &secrets("1")));
    assert!(store.replace(&alice, &secrets("3")).unwrap());
    drop(store);
    let store = UserStore::open(&path).unwrap();
    assert!(is_same(store.find(&alice).unwrap(), &secrets("3")));
    assert_eq!(store.len().unwrap(), 1);
    assert!(store.remove(&alice).unwrap());
    assert!(store.find(&alice).unwrap().is_none());
    assert_eq!(store.len().unwrap(), 0);
}

#[test]
fn the_same_name_in_two_realms_is_two_users_and_a_list_goes_on_where_it_ended() {
    let scratch = Scratch::new();
    let store = UserStore::open(&scratch.path().join("users.redb")).unwrap();
    assert!(store.list(None, 10).unwrap().is_empty());
    let mut expected = Vec::new();
    for realm in ["a.example", "b.example"] {
        for user in ["a@b", "alice", "bob"] {
            store.add(&account(user, realm), &secrets("1")).unwrap();
            expected.push(account(user, realm));
        }
    }
    let mut found: Vec<Account> = Vec::new();
    loop {
        let page = store.list(found.last(), 4).unwrap();
        if page.is_empty() {
            break;
        }
        assert!(page.iter().all(|listed| listed.algorithms == Algorithm::ALL));
        found.extend(page.into_iter().map(|listed| listed.account));
    }
    assert_eq!(found, expected);
}

#[test]
fn a_hash_alone_is_kept_alone() {
    let mut md5 = Secrets::default();
    let hash = Hash::from_hex(Algorithm::Md5, "939e7578ed9e3c518a452acee763bce9").unwrap();
    md5.set(Algorithm::Md5, hash);
    let text = encode(&md5);
    assert_eq!(text, "MD5=939e7578ed9e3c518a452acee763bce9");
    let found = decode(&account("a", "r"), &text).unwrap();
    assert!(found.get(Algorithm::Sha256).is_none());
    assert_eq!(encode(&found), text);
}

#[test]
fn what_cannot_be_a_store_is_told_with_what_to_do_and_no_secret() {
    let scratch = Scratch::new();
    let path = scratch.path().join("users.redb");
    let refusal = |path: &Path| UserStore::open(path).err().unwrap().to_string();
    std::fs::write(&path, "rubbish").unwrap();
    let fault = refusal(&path);
    assert!(fault.contains("users.redb") && fault.contains("restore it from a backup"), "{fault}");
    // The bindings' file is no file of users.
    let other = scratch.path().join("location.redb");
    let kind = RedbFile { mark: "format", ..FILE };
    drop(kind.open_or_create(&other).unwrap());
    assert!(refusal(&other).contains("does not say its format"), "{}", refusal(&other));
    assert!(refusal(&scratch.path().join("none/users.redb")).contains("No such file"));
    let fault = decode(&account("alice", "r"), "MD5=c0ffee").unwrap_err().to_string();
    assert!(fault.contains("alice@r") && !fault.contains("c0ffee"), "{fault}");
}

#[test]
fn the_file_is_its_owners_alone_and_open_once() {
    let scratch = Scratch::new();
    let path = scratch.path().join("users.redb");
    let _store = UserStore::open(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let second = UserStore::open(&path).err().unwrap().to_string();
    assert!(second.contains("in use by another process"), "{second}");
}
