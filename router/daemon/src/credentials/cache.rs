//! What the database has said, for a while: users, and apart from them names that nobody has, so
//! that a flood of made-up names pushes no user out.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use quick_cache::sync::Cache as Bounded;
use viaduct_engine::auth::{Account, Secrets};

use crate::config::AuthCacheConfig;

/// The cache.
pub(super) struct Cache {
    users: Bounded<Account, (Arc<Secrets>, u64)>,
    absent: Bounded<Account, u64>,
    users_ms: u64,
    absent_ms: u64,
    /// Grows with each flush: what was fetched before one is not kept after it.
    epoch: AtomicU64,
}

impl Cache {
    pub(super) fn new(config: &AuthCacheConfig) -> Cache {
        Cache {
            users: Bounded::new(config.users),
            absent: Bounded::new(config.absent),
            users_ms: config.users_s.saturating_mul(1000),
            absent_ms: config.absent_s.saturating_mul(1000),
            epoch: AtomicU64::new(0),
        }
    }

    /// `None`: unknown. `Some(None)`: there is no such user.
    pub(super) fn get(&self, account: &Account, now_ms: u64) -> Option<Option<Arc<Secrets>>> {
        let user = self.users.get(account).filter(|(_, until_ms)| now_ms < *until_ms);
        if let Some((secrets, _)) = user {
            return Some(Some(secrets));
        }
        self.absent.get(account).filter(|until_ms| now_ms < *until_ms).map(|_| None)
    }

    /// Says what [`Cache::put`] wants to know; ask before the database is asked.
    pub(super) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::SeqCst)
    }

    /// Keeps an answer, unless there was a flush since `epoch`.
    pub(super) fn put(
        &self,
        account: &Account,
        secrets: Option<Arc<Secrets>>,
        now_ms: u64,
        epoch: u64,
    ) {
        match secrets {
            Some(secrets) => {
                self.absent.remove(account);
                self.users.insert(account.clone(), (secrets, now_ms.saturating_add(self.users_ms)));
            }
            None => {
                self.users.remove(account);
                self.absent.insert(account.clone(), now_ms.saturating_add(self.absent_ms));
            }
        }
        // After it was put in: a flush that comes between has not seen it.
        if self.epoch() != epoch {
            self.users.remove(account);
            self.absent.remove(account);
        }
    }

    /// Forgets one; how many entries that was.
    pub(super) fn remove(&self, account: &Account) -> usize {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        let user = self.users.remove(account).is_some();
        let absent = self.absent.remove(account).is_some();
        usize::from(user).saturating_add(usize::from(absent))
    }

    /// Forgets all; how many.
    pub(super) fn clear(&self) -> usize {
        self.epoch.fetch_add(1, Ordering::SeqCst);
        let (users, absent) = self.len();
        self.users.clear();
        self.absent.clear();
        users.saturating_add(absent)
    }

    /// Users, and names nobody has.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.users.len(), self.absent.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> Cache {
        Cache::new(&AuthCacheConfig { users: 100, users_s: 10, absent: 100, absent_s: 2 })
    }

    fn account(user: &str) -> Account {
        Account { realm: "example.com".into(), user: user.into() }
    }

    fn secrets() -> Option<Arc<Secrets>> {
        Some(Arc::new(Secrets::of_password("a", "b", "c")))
    }

    #[test]
    fn users_and_absences_expire_by_their_own_time() {
        let cache = cache();
        cache.put(&account("alice"), secrets(), 1000, 0);
        cache.put(&account("nobody"), None, 1000, 0);
        assert!(cache.get(&account("alice"), 10_999).unwrap().is_some());
        assert!(cache.get(&account("alice"), 11_000).is_none());
        assert!(cache.get(&account("nobody"), 2999).unwrap().is_none());
        assert!(cache.get(&account("nobody"), 3000).is_none());
        assert!(cache.get(&account("bob"), 1000).is_none());
    }

    #[test]
    fn a_user_who_appears_or_leaves_is_one_or_the_other() {
        let cache = cache();
        cache.put(&account("alice"), None, 0, 0);
        cache.put(&account("alice"), secrets(), 0, 0);
        assert_eq!(cache.len(), (1, 0));
        cache.put(&account("alice"), None, 0, 0);
        assert_eq!(cache.len(), (0, 1));
        assert!(cache.get(&account("alice"), 1).unwrap().is_none());
    }

    #[test]
    fn what_was_fetched_before_a_flush_is_not_kept_after_it() {
        let cache = cache();
        let epoch = cache.epoch();
        cache.put(&account("bob"), secrets(), 0, epoch);
        assert_eq!(cache.clear(), 1);
        cache.put(&account("alice"), secrets(), 0, epoch);
        assert!(cache.get(&account("alice"), 1).is_none());
        assert_eq!(cache.remove(&account("alice")), 0);
    }

    #[test]
    fn made_up_names_push_no_user_out_and_are_bounded() {
        let cache = cache();
        cache.put(&account("alice"), secrets(), 0, 0);
        for n in 0..10_000 {
            cache.put(&account(&n.to_string()), None, 0, 0);
        }
        assert!(cache.get(&account("alice"), 1).is_some());
        assert!(cache.len().1 <= 200, "{:?}", cache.len());
    }
}
