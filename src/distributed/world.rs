//! The processes of a job, and their collective operations.

use super::{
    Environment,
    member::Member,
    watch::{Blame, StoreHost, Watch},
};
use crate::{
    error::{Error, Result},
    sys::{Group, Interface, Store, TensorList},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{
    env, io,
    net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs as _, UdpSocket},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use tch::{Device, Kind, Tensor};

/// The timeout of a start and of a collective operation, in seconds.
const TIMEOUT: &str = "FINETUNE_DISTRIBUTED_TIMEOUT";
/// The longest timeout: about thirty years. libtorch's clocks can add it to the time of day.
const LONGEST: Duration = Duration::from_secs(1_000_000_000);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(600);

/// The processes of a job: this one, and the connection to the others. In a job of one process, every
/// operation returns immediately.
#[derive(Debug)]
pub(crate) struct World {
    rank: usize,
    size: usize,
    local_rank: usize,
    link: Option<Link>,
}

/// The connection to the other processes.
#[derive(Debug)]
struct Link {
    store: Arc<Store>,
    prefix: String,
    timeout: Duration,
    /// `None` once the job has failed.
    group: Mutex<Option<Group>>,
    /// True if tensors on GPUs can be reduced.
    on_gpus: Mutex<bool>,
    watch: Watch,
}

static WORLD: Mutex<Option<Arc<World>>> = Mutex::new(None);

impl World {
    /// Returns the job of this process, which is joined at the first call.
    pub(crate) fn get() -> Result<Arc<Self>> {
        let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(world) = &*world {
            return Ok(world.clone());
        }
        let new = Arc::new(match Environment::read()? {
            Some(place) => Self::join(place)?,
            None => Self { rank: 0, size: 1, local_rank: 0, link: None },
        });
        *world = Some(new.clone());
        Ok(new)
    }

    /// Returns the job of this process if it has joined it.
    #[cfg(feature = "show")]
    pub(crate) fn joined() -> Option<Arc<Self>> {
        WORLD.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn join(place: &Environment) -> Result<Self> {
        let &Environment { rank, world_size: size, local_rank, .. } = place;
        if size == 1 {
            return Ok(Self { rank, size, local_rank, link: None });
        }
        let timeout = timeout()?;
        let serves = rank == 0 && !place.agent_store;
        let listener = serves.then(|| listener(place)).transpose()?;
        let (host, port) = (&place.master_addr, place.master_port);
        let store = Store::connect(host, port, listener, timeout).map_err(|e| {
            let who = if place.agent_store { "the launcher" } else { "rank 0" };
            let why = format!(
                "rank {rank} cannot reach the store that {who} serves at {host}:{port} \
                 (`MASTER_ADDR`, `MASTER_PORT`) within {} s: check that it runs and can be reached from \
                 this machine. {e}",
                timeout.as_secs()
            );
            Error::distributed(None, why)
        })?;
        let store = Arc::new(store);
        let prefix = format!("finetune/{}/", place.attempt);
        let members = gather_members(&store, &prefix, rank, size, timeout)?;
        let interface = interface(place)?;
        let group = Group::new(&store, &format!("{prefix}world"), rank, size, timeout, &interface)
            .map_err(|e| {
                let why = format!(
                    "rank {rank} cannot connect to the other {} processes on {interface:?}: {e}. Set \
                     `GLOO_SOCKET_IFNAME` to the interface through which the machines reach each other",
                    size - 1
                );
                Error::distributed(None, why)
            })?;
        let host = if place.agent_store { StoreHost::Launcher } else { StoreHost::FirstRank };
        let watch = Watch::start(&store, prefix.clone(), rank, members, host)?;
        let link = Link {
            store,
            prefix,
            timeout,
            group: Mutex::new(Some(group)),
            on_gpus: Mutex::new(false),
            watch,
        };
        Ok(Self { rank, size, local_rank, link: Some(link) })
    }

    pub(crate) fn rank(&self) -> usize {
        self.rank
    }

    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Returns true if this process prints and writes files.
    pub(crate) fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// Prepares operations on tensors on `device`. Every rank of a machine must have its own GPU.
    pub(crate) fn use_device(&self, device: Device) -> Result<()> {
        let (Some(link), Device::Cuda(gpu)) = (&self.link, device) else { return Ok(()) };
        if gpu != self.local_rank {
            let why = format!(
                "rank {} has the local rank {}, but its model is on GPU {gpu}: put the model and the \
                 data of each process on the GPU `finetune::distributed::local_rank()`",
                self.rank, self.local_rank
            );
            return Err(Error::config("device", why));
        }
        let mut ready = link.on_gpus.lock().unwrap_or_else(PoisonError::into_inner);
        if *ready {
            return Ok(());
        }
        let prefix = format!("{}nccl", link.prefix);
        link.group()?.add_nccl(&link.store, &prefix, link.timeout).map_err(|e| {
            Error::distributed(None, format!("NCCL cannot be used on rank {}: {e}", self.rank))
        })?;
        *ready = true;
        Ok(())
    }

    /// Returns the group for operations of the native layer, such as the reducer; `None` for one process.
    pub(crate) fn group(&self) -> Result<Option<Group>> {
        self.link.as_ref().map(Link::group).transpose()
    }

    /// Waits until every rank has called it.
    pub(crate) fn barrier(&self) -> Result<()> {
        self.together("barrier", |group| group.barrier()).map(|_| ())
    }

    /// Replaces `t` by its sum over all ranks.
    pub(crate) fn all_reduce(&self, t: &Tensor) -> Result<()> {
        self.together("sum over all ranks", |group| group.all_reduce(t)).map(|_| ())
    }

    /// Replaces `t` by the value of rank 0.
    pub(crate) fn broadcast(&self, t: &Tensor) -> Result<()> {
        self.together("broadcast", |group| group.broadcast(t, 0)).map(|_| ())
    }

    /// Returns the tensors of all ranks, which must have the same size, in the order of the ranks.
    pub(crate) fn all_gather(&self, t: &Tensor) -> Result<Vec<Tensor>> {
        let t = t.contiguous();
        let outs: Vec<Tensor> = (0..self.size).map(|_| t.empty_like()).collect();
        let list = TensorList::new(&outs)?;
        let gathered = self.together("gather", |group| group.all_gather(&t, &list))?;
        Ok(if gathered.is_some() { outs } else { vec![t] })
    }

    /// Returns the rows of all ranks, in the order of the ranks. Ranks may have different numbers of rows,
    /// or none; the shape of a row and the type must be the same. If `padded`, the shapes of rows may
    /// differ, and smaller rows are padded with zeros at the end of each axis.
    pub(crate) fn gather_rows(
        &self,
        rows: Option<&Tensor>,
        padded: bool,
    ) -> Result<Option<Tensor>> {
        let described = rows.map(|t| (t.size(), format!("{:?}", t.kind())));
        let all: Vec<Option<(Vec<i64>, String)>> = self.exchange(&described)?;
        if self.size == 1 {
            return Ok(rows.map(Tensor::shallow_clone));
        }
        let Some((first, kind)) = all.iter().flatten().next() else { return Ok(None) };
        let fits = |(size, k): &(Vec<i64>, String)| {
            let same = if padded { size.len() == first.len() } else { size[1..] == first[1..] };
            same && k == kind
        };
        if !all.iter().flatten().all(fits) {
            return Err(Error::mismatch("rows of different ranks", format!("are {all:?}")));
        }
        let mut largest = first.clone();
        for (size, _) in all.iter().flatten() {
            largest.iter_mut().zip(size).for_each(|(most, n)| *most = (*most).max(*n));
        }
        let device = rows.map_or(self.device(), Tensor::device);
        let kind = rows.map_or_else(|| kind_named(kind), |t| Ok(t.kind()))?;
        let own = Tensor::f_zeros(&largest, (kind, device))?;
        if let Some(rows) = rows {
            let mut part = own.shallow_clone();
            for (axis, n) in rows.size().into_iter().enumerate() {
                part = part.f_narrow(axis as i64, 0, n)?;
            }
            part.f_copy_(&rows.detach())?;
        }
        let parts = self.all_gather(&own)?;
        let parts = parts.iter().zip(&all).filter_map(|(part, described)| {
            let (size, _) = described.as_ref()?;
            Some(part.f_narrow(0, 0, size[0]))
        });
        let parts = parts.collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(Some(Tensor::f_cat(&parts, 0)?))
    }

    /// Returns the device of this rank's tensors, if it has no tensor to determine it.
    fn device(&self) -> Device {
        let on_gpus = self
            .link
            .as_ref()
            .is_some_and(|link| *link.on_gpus.lock().unwrap_or_else(PoisonError::into_inner));
        if on_gpus { Device::Cuda(self.local_rank) } else { Device::Cpu }
    }

    /// Returns the value of every rank, in the order of the ranks.
    pub(crate) fn exchange<T: Serialize + DeserializeOwned>(&self, own: &T) -> Result<Vec<T>> {
        let own = serde_json::to_vec(own).map_err(Error::other)?;
        let all = self.exchange_bytes(&own)?;
        all.iter().map(|bytes| serde_json::from_slice(bytes).map_err(Error::other)).collect()
    }

    fn exchange_bytes(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        if self.size == 1 {
            return Ok(vec![own.to_vec()]);
        }
        let lengths = self.all_gather(&Tensor::from_slice(&[own.len() as i64]))?;
        let lengths: Vec<usize> = lengths.iter().map(|t| t.int64_value(&[0]) as usize).collect();
        let most = lengths.iter().copied().max().unwrap_or(0);
        let mut padded = own.to_vec();
        padded.resize(most, 0);
        let parts = self.all_gather(&Tensor::f_from_slice(&padded)?)?;
        let bytes = |(part, n): (&Tensor, usize)| {
            let mut bytes: Vec<u8> = Vec::try_from(part)?;
            bytes.truncate(n);
            Ok(bytes)
        };
        parts.iter().zip(lengths).map(bytes).collect()
    }

    /// Returns the numbers of every rank, in the order of the ranks.
    pub(crate) fn exchange_numbers<const N: usize>(&self, own: [f64; N]) -> Result<Vec<[f64; N]>> {
        let all = self.all_gather(&Tensor::from_slice(&own))?;
        let numbers = |t: &Tensor| {
            let list: Vec<f64> = Vec::try_from(t.to_kind(Kind::Double))?;
            list.try_into().map_err(|_| Error::other("the number of exchanged values differs"))
        };
        all.iter().map(numbers).collect()
    }

    /// Returns an error on every rank if their descriptions differ. `what` contains names and values; the
    /// error shows both values.
    pub(crate) fn must_agree(&self, what: &[(String, String)]) -> Result<()> {
        let all = self.exchange(&what.to_vec())?;
        let Some((first, others)) = all.split_first() else { return Ok(()) };
        for (k, other) in others.iter().enumerate() {
            let differs = first.iter().zip(other).find(|(a, b)| a != b);
            if let Some(((name, a), (other_name, b))) = differs {
                let (a, b) = if name == other_name {
                    difference(a, b)
                } else {
                    (format!("{name} {a}"), format!("{other_name} {b}"))
                };
                let rank = k + 1;
                let why = format!(
                    "they differ in {name}: rank 0 has {a}, but rank {rank} has {b}. Every process must \
                     build the same learner"
                );
                return Err(Error::mismatch("the ranks", why));
            }
            if first.len() != other.len() {
                let (a, b, rank) = (first.len(), other.len(), k + 1);
                let why = format!("rank 0 has {a} values to compare, but rank {rank} has {b}");
                return Err(Error::mismatch("the ranks", why));
            }
        }
        Ok(())
    }

    /// Runs an operation with all ranks; `None` for one process. A failure names the rank at fault.
    fn together<T>(&self, what: &str, f: impl FnOnce(&Group) -> Result<T>) -> Result<Option<T>> {
        let Some(link) = &self.link else { return Ok(None) };
        let group = link.group()?;
        f(&group).map(Some).map_err(|e| {
            let why = format!("{what} failed on rank {}: {e}", self.rank);
            self.settle(Error::distributed(None, why))
        })
    }

    /// Returns the error to report for `e`, after which this rank no longer participates: that of the rank
    /// at fault if it is another one; `e` itself if it is this one, or if all failed in the same way. Every
    /// rank returns one within seconds.
    pub(crate) fn settle(&self, e: Error) -> Error {
        let Some(link) = &self.link else { return e };
        let by_network = matches!(e, Error::Distributed { .. });
        match link.watch.blame(&e.to_string(), by_network) {
            Blame::Alike => e,
            Blame::Own => {
                link.leave();
                e
            }
            Blame::Other { rank, why } => {
                link.leave();
                Error::distributed(rank, why)
            }
        }
    }
}

impl Link {
    fn group(&self) -> Result<Group> {
        let group = self.group.lock().unwrap_or_else(PoisonError::into_inner);
        group.clone().ok_or_else(|| {
            let (rank, why) =
                self.watch.reason().unwrap_or_else(|| (None, "the job has failed".into()));
            Error::distributed(rank, why)
        })
    }

    /// Closes the connections to the other ranks, so that none waits for this one.
    fn leave(&self) {
        let group = self.group.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(group) = group {
            // Freeing it waits for pending operations, which may wait for a rank that hangs.
            std::thread::spawn(move || drop(group));
        }
        self.watch.linger();
    }
}

/// Returns the parts of two texts around their first difference.
fn difference(a: &str, b: &str) -> (String, String) {
    const SHOWN: usize = 60;
    let same = a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count();
    let from = same.saturating_sub(SHOWN / 2);
    let part = |text: &str| {
        let part: String = text.chars().skip(from).take(SHOWN).collect();
        let (before, after) = (from > 0, text.chars().count() > from + SHOWN);
        format!("`{}{part}{}`", if before { "…" } else { "" }, if after { "…" } else { "" })
    };
    (part(a), part(b))
}

fn kind_named(name: &str) -> Result<Kind> {
    let all = [
        Kind::Uint8,
        Kind::Int64,
        Kind::Int,
        Kind::Float,
        Kind::Double,
        Kind::Half,
        Kind::BFloat16,
        Kind::Bool,
    ];
    let found = all.into_iter().find(|kind| format!("{kind:?}") == name);
    found.ok_or_else(|| Error::unsupported("gather", format!("of tensors of type {name}")))
}

fn timeout() -> Result<Duration> {
    env::var_os(TIMEOUT).map_or(Ok(DEFAULT_TIMEOUT), |text| seconds(&text.to_string_lossy()))
}

/// Reads a timeout. It is at least a millisecond: libtorch takes 0 milliseconds for no limit.
fn seconds(text: &str) -> Result<Duration> {
    let time = text.trim().parse().ok().and_then(|s| Duration::try_from_secs_f64(s).ok());
    let fits = |time: &Duration| (Duration::from_millis(1)..=LONGEST).contains(time);
    time.filter(fits).ok_or_else(|| {
        let longest = LONGEST.as_secs();
        let why = format!("is {text:?}; it must be from 0.001 to {longest} seconds");
        Error::config(TIMEOUT, why)
    })
}

/// Returns the descriptions of all processes; waits for them.
fn gather_members(
    store: &Store,
    prefix: &str,
    rank: usize,
    size: usize,
    timeout: Duration,
) -> Result<Vec<Member>> {
    let own = Member::this_process(size);
    let key = |rank: usize| format!("{prefix}member/{rank}");
    store.set(&key(rank), &serde_json::to_vec(&own).map_err(Error::other)?)?;
    let began = Instant::now();
    let mut members = vec![];
    for other in 0..size {
        while !store.has(&key(other))? {
            if began.elapsed() > timeout {
                let there = |r: &usize| store.has(&key(*r)).unwrap_or(false);
                let missing: Vec<usize> = (0..size).filter(|r| !there(r)).collect();
                let why = format!(
                    "of {size} processes, those with the ranks {missing:?} did not join within {} s: \
                     check that they were started, or set `{TIMEOUT}` to more seconds",
                    timeout.as_secs()
                );
                return Err(Error::distributed(missing.first().copied(), why));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let member: Member =
            serde_json::from_slice(&store.get(&key(other))?).map_err(Error::other)?;
        for (what, a, b) in [
            ("numbers of processes", own.world_size.to_string(), member.world_size.to_string()),
            ("versions of finetune", own.crate_version.clone(), member.crate_version.clone()),
            ("versions of libtorch", own.libtorch.clone(), member.libtorch.clone()),
        ] {
            if a != b {
                let why =
                    format!("rank {rank} and rank {other} have different {what}: {a} and {b}");
                return Err(Error::distributed(Some(other), why));
            }
        }
        members.push(member);
    }
    Ok(members)
}

/// Returns the addresses of the store, IPv4 first.
fn addresses(place: &Environment) -> Result<Vec<SocketAddr>> {
    let (host, port) = (&*place.master_addr, place.master_port);
    let unknown = |e: io::Error| Error::config("MASTER_ADDR", format!("`{host}` is unknown: {e}"));
    let mut all: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(unknown)?.collect();
    all.sort_by_key(SocketAddr::is_ipv6);
    Ok(all)
}

/// Returns the socket on which rank 0 serves the store: only on the interface of `MASTER_ADDR`, not on all
/// of them, which is c10d's default.
fn listener(place: &Environment) -> Result<TcpListener> {
    let (host, port) = (&place.master_addr, place.master_port);
    let all = addresses(place)?;
    TcpListener::bind(&*all).map_err(|e| match e.kind() {
        io::ErrorKind::AddrInUse => {
            let why = format!(
                "{port} is in use on {host}: choose another port, or end the program that listens on it"
            );
            Error::config("MASTER_PORT", why)
        }
        io::ErrorKind::AddrNotAvailable => {
            let why = format!(
                "`{host}` is not an address of this machine, where rank 0 runs and serves the store: set \
                 it to one of this machine"
            );
            Error::config("MASTER_ADDR", why)
        }
        _ => Error::config("MASTER_ADDR", format!("cannot listen on {host}:{port}: {e}")),
    })
}

/// Returns the interface through which this machine reaches `MASTER_ADDR`, unless `GLOO_SOCKET_IFNAME` is
/// set.
fn interface(place: &Environment) -> Result<Interface> {
    if let Ok(names) = env::var("GLOO_SOCKET_IFNAME")
        && let Some(name) = names.split(',').map(str::trim).find(|n| !n.is_empty())
    {
        return Ok(Interface::Name(name.to_owned()));
    }
    let mut failed = None;
    for to in addresses(place)? {
        match local_address(to) {
            Ok(address) => return Ok(Interface::Address(address.to_string())),
            Err(e) => failed = Some(e),
        }
    }
    let why = failed.map_or_else(|| "it has no address".to_owned(), |e| e.to_string());
    Err(Error::config("MASTER_ADDR", format!("`{}` cannot be reached: {why}", place.master_addr)))
}

/// Returns the address of this machine from which it reaches `to`. Nothing is sent.
fn local_address(to: SocketAddr) -> io::Result<IpAddr> {
    let any: SocketAddr =
        if to.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0, 0, 0, 0, 0, 0, 0, 0], 0).into() };
    let socket = UdpSocket::bind(any)?;
    socket.connect(to)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_shown_where_it_is() {
        let (a, b) = difference("[64, 3]", "[64, 4]");
        assert_eq!((&*a, &*b), ("`[64, 3]`", "`[64, 4]`"));
        let long = "x".repeat(100);
        let (a, b) = difference(&format!("{long}1{long}"), &format!("{long}2{long}"));
        assert!(a.contains("x1x") && b.contains("x2x") && a.starts_with("`…"), "{a} {b}");
    }

    #[test]
    fn a_timeout_is_a_time_that_clocks_can_add() {
        assert_eq!(seconds(" 4 ").unwrap(), Duration::from_secs(4));
        assert_eq!(seconds("1e9").unwrap(), LONGEST);
        for wrong in ["", "soon", "0", "-1", "1e-9", "NaN", "inf", "1e10", "1e30", "1e308"] {
            let e = seconds(wrong).unwrap_err();
            assert!(matches!(e, Error::Config { option: TIMEOUT, .. }), "{e}");
            assert!(e.to_string().contains(&format!("is {wrong:?}; it must be from 0.001")), "{e}");
        }
    }

    #[test]
    fn loopback_is_reached_from_loopback() {
        let address = local_address(([127, 0, 0, 1], 29500).into()).unwrap();
        assert!(address.is_loopback());
    }
}
