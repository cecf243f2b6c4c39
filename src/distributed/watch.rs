//! Determines which rank is at fault.

use super::member::Member;
use crate::{
    error::{Error, Result},
    sys::Store,
};
use serde::{Deserialize, Serialize};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// The interval of each process's heartbeat.
const BEAT: Duration = Duration::from_millis(500);
/// A process without a heartbeat for this time has ended or is unreachable.
const STALE: Duration = Duration::from_secs(3);
/// The time that a failed process waits for the others to fail in the same way.
const ALIKE: Duration = Duration::from_secs(2);
/// The time that a process searches for the one at fault.
const SEARCH: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(50);

/// The process that serves the store. The store ends with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum StoreHost {
    FirstRank,
    Launcher,
}

/// The process at fault after a failure.
#[derive(Debug)]
pub(super) enum Blame {
    /// All ranks failed at the same point: they are still synchronized.
    Alike,
    /// This rank.
    Own,
    /// Another rank, or an unknown one.
    Other { rank: Option<usize>, why: String },
}

/// The conclusion that is sent to all ranks.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Verdict {
    rank: Option<usize>,
    why: String,
}

/// Sends this rank's heartbeat, and detects which other rank has none.
///
/// c10d's errors name an address, not a rank, and a rank that waits for a third one sees only the end of
/// the latter. Therefore each rank increments a key of the store, and the first rank that finds a count
/// unchanged, or that fails on its own, writes a verdict for all.
#[derive(Debug)]
pub(super) struct Watch {
    shared: Arc<Shared>,
    store: Arc<Store>,
    members: Vec<Member>,
    host: StoreHost,
    /// The number of times that all ranks failed in the same way.
    alike: AtomicU64,
}

#[derive(Debug)]
struct Shared {
    prefix: String,
    rank: usize,
    stop: AtomicBool,
    verdict: Mutex<Option<Verdict>>,
}

impl Shared {
    fn key(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    fn known(&self) -> Option<Verdict> {
        self.verdict.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the verdict, once there is one.
    fn look(&self, store: &Store) -> Result<Option<Verdict>> {
        if let Some(known) = self.known() {
            return Ok(Some(known));
        }
        let key = self.key("verdict");
        if !store.has(&key)? {
            return Ok(None);
        }
        let verdict: Verdict = serde_json::from_slice(&store.get(&key)?).map_err(Error::other)?;
        let mut known = self.verdict.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = Some(verdict.clone());
            drop(known);
            store.add(&self.key("told"), 1)?;
        }
        Ok(Some(verdict))
    }

    fn beat(&self, store: &Store) {
        let own = self.key(&format!("beat/{}", self.rank));
        while !self.stop.load(Ordering::Relaxed) {
            // If the store is gone, the main thread finds out itself.
            if store.add(&own, 1).is_err() || self.look(store).is_err() {
                return;
            }
            thread::sleep(BEAT);
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

impl Watch {
    pub(super) fn start(
        store: &Arc<Store>,
        prefix: String,
        rank: usize,
        members: Vec<Member>,
        host: StoreHost,
    ) -> Result<Self> {
        let (stop, verdict) = (AtomicBool::new(false), Mutex::new(None));
        let shared = Arc::new(Shared { prefix, rank, stop, verdict });
        let (own, beating) = (store.another()?, shared.clone());
        let named = thread::Builder::new().name("finetune-watch".into());
        named.spawn(move || beating.beat(&own)).map_err(Error::other)?;
        let (store, alike) = (store.clone(), AtomicU64::new(0));
        Ok(Self { shared, store, members, host, alike })
    }

    /// Returns the reason for the failure of the job, once it has failed.
    pub(super) fn reason(&self) -> Option<(Option<usize>, String)> {
        self.shared.known().map(|v| (v.rank, v.why))
    }

    /// Determines who is at fault when this rank failed with `message`: on its own, or in a failed
    /// operation with others.
    pub(super) fn blame(&self, message: &str, by_network: bool) -> Blame {
        let judged = |v: Verdict| {
            if v.rank == Some(self.shared.rank) {
                Blame::Own
            } else {
                Blame::Other { rank: v.rank, why: v.why }
            }
        };
        match self.search(message, by_network) {
            Ok(Some(verdict)) => judged(verdict),
            Ok(None) => Blame::Alike,
            // The store is gone.
            Err(_) => judged(self.shared.known().unwrap_or_else(|| self.store_is_gone())),
        }
    }

    fn store_is_gone(&self) -> Verdict {
        let (rank, who) = match self.host {
            StoreHost::Launcher => (None, "the launcher".to_owned()),
            StoreHost::FirstRank => (Some(0), self.name(0)),
        };
        Verdict {
            rank,
            why: format!("{who} ended or cannot be reached: its store does not answer"),
        }
    }

    fn name(&self, rank: usize) -> String {
        match self.members.get(rank) {
            Some(m) => format!("rank {rank} (process {} on {})", m.process, m.host),
            None => format!("rank {rank}"),
        }
    }

    /// Returns the verdict; `None` if all failed in the same way.
    fn search(&self, message: &str, by_network: bool) -> Result<Option<Verdict>> {
        let (store, shared) = (&*self.store, &*self.shared);
        let size = self.members.len();
        let failing = format!("failing/{}", self.alike.load(Ordering::Relaxed));
        let mut failed = false;
        let began = Instant::now();
        let mut beats = vec![(0, began); size];
        loop {
            if let Some(verdict) = shared.look(store)? {
                return Ok(Some(verdict));
            }
            if !by_network && !failed {
                store.add(&shared.key(&failing), 1)?;
                failed = true;
            }
            if failed && store.add(&shared.key(&failing), 0)? >= size as i64 {
                self.alike.fetch_add(1, Ordering::Relaxed);
                return Ok(None);
            }
            let mut dead = vec![];
            for (rank, (count, since)) in beats.iter_mut().enumerate() {
                let now = store.add(&shared.key(&format!("beat/{rank}")), 0)?;
                if now != *count {
                    (*count, *since) = (now, Instant::now());
                } else if since.elapsed() > STALE && rank != shared.rank {
                    dead.push(rank);
                }
            }
            if let Some(&first) = dead.first() {
                let names: Vec<String> = dead.iter().map(|&r| self.name(r)).collect();
                let why = format!("{} ended or cannot be reached", names.join(", "));
                return self.judge(Verdict { rank: Some(first), why }).map(Some);
            }
            if failed && began.elapsed() > ALIKE {
                let own = shared.rank;
                let why = format!("{} failed: {message}", self.name(own));
                return self.judge(Verdict { rank: Some(own), why }).map(Some);
            }
            if began.elapsed() > SEARCH {
                let why = format!("{message}. All processes are alive");
                return self.judge(Verdict { rank: None, why }).map(Some);
            }
            thread::sleep(PAUSE);
        }
    }

    /// Writes the verdict for all ranks, unless another rank was first: then that verdict is returned.
    fn judge(&self, verdict: Verdict) -> Result<Verdict> {
        let (store, shared) = (&*self.store, &*self.shared);
        if store.add(&shared.key("judges"), 1)? == 1 {
            store.set(
                &shared.key("verdict"),
                &serde_json::to_vec(&verdict).map_err(Error::other)?,
            )?;
        }
        let began = Instant::now();
        loop {
            if let Some(verdict) = shared.look(store)? {
                return Ok(verdict);
            }
            if began.elapsed() > STALE {
                return Ok(verdict);
            }
            thread::sleep(PAUSE);
        }
    }

    /// Waits until the other ranks know the verdict, if the store ends with this process.
    pub(super) fn linger(&self) {
        if self.host != StoreHost::FirstRank || self.shared.rank != 0 {
            return;
        }
        let began = Instant::now();
        let told = || self.store.add(&self.shared.key("told"), 0);
        while began.elapsed() < STALE && told().is_ok_and(|n| n < self.members.len() as i64) {
            thread::sleep(PAUSE);
        }
    }
}
