//! Calls into `c10d.cpp`.

use super::{TensorList, message::checked};
use crate::error::{Error, Result};
use std::{
    ffi::{CString, c_char, c_int, c_void},
    fmt,
    net::TcpListener,
    ptr::{NonNull, null_mut},
    sync::Arc,
    time::Duration,
};
use tch::Tensor;

unsafe extern "C" {
    fn finetune_store(
        host: *const c_char,
        port: u16,
        listener: c_int,
        timeout: i64,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    fn finetune_store_clone(of: *mut c_void, out: *mut *mut c_void) -> *mut c_char;
    fn finetune_store_free(of: *mut c_void);
    fn finetune_store_set(
        of: *mut c_void,
        key: *const c_char,
        data: *const u8,
        n: usize,
    ) -> *mut c_char;
    fn finetune_store_add(
        of: *mut c_void,
        key: *const c_char,
        n: i64,
        sum: *mut i64,
    ) -> *mut c_char;
    fn finetune_store_has(of: *mut c_void, key: *const c_char, has: *mut bool) -> *mut c_char;
    fn finetune_store_get(
        of: *mut c_void,
        key: *const c_char,
        take: extern "C" fn(*mut c_void, *const u8, usize),
        context: *mut c_void,
    ) -> *mut c_char;
    fn finetune_group(
        keys: *mut c_void,
        prefix: *const c_char,
        rank: c_int,
        size: c_int,
        timeout: i64,
        address: *const c_char,
        is_interface: bool,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    fn finetune_group_nccl(
        of: *mut c_void,
        keys: *mut c_void,
        prefix: *const c_char,
        timeout: i64,
    ) -> *mut c_char;
    fn finetune_group_free(of: *mut c_void);
    fn finetune_group_barrier(of: *mut c_void) -> *mut c_char;
    fn finetune_group_all_reduce(of: *mut c_void, t: *mut c_void) -> *mut c_char;
    fn finetune_group_broadcast(of: *mut c_void, t: *mut c_void, root: c_int) -> *mut c_char;
    fn finetune_group_all_gather(of: *mut c_void, t: *mut c_void, outs: *mut c_void)
    -> *mut c_char;
    fn finetune_group_sum(of: *mut c_void, t: *mut c_void, out: *mut *mut c_void) -> *mut c_char;
    fn finetune_set_grads(params: *mut c_void, grads: *mut c_void) -> *mut c_char;
    fn finetune_reducer(
        of: *mut c_void,
        params: *mut c_void,
        first_bytes: i64,
        bytes: i64,
        out: *mut *mut c_void,
    ) -> *mut c_char;
    fn finetune_reducer_forward(of: *mut c_void) -> *mut c_char;
    fn finetune_reducer_backward(of: *mut c_void, loss: *mut c_void) -> *mut c_char;
    fn finetune_reducer_free(of: *mut c_void);
}

/// Converts a text for the native layer.
fn text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::other(format!("{text:?} has a zero byte")))
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// Returns the handle that a successful call has written.
fn made(out: *mut c_void) -> Result<NonNull<c_void>> {
    NonNull::new(out).ok_or_else(|| Error::other("the native layer returned no handle"))
}

/// A key-value store shared by all processes of a job: c10d's `TCPStore`.
pub(crate) struct Store(NonNull<c_void>);

// SAFETY: `TCPStore` takes a lock in each call, so calls from several threads are serialized.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: the native layer created the store, and it is freed once.
        unsafe { finetune_store_free(self.0.as_ptr()) }
    }
}

impl Store {
    /// Connects to the store at `host`:`port`. If a listening socket is given, this process also serves the
    /// store until the value is dropped.
    pub(crate) fn connect(
        host: &str,
        port: u16,
        listener: Option<TcpListener>,
        timeout: Duration,
    ) -> Result<Self> {
        let host = text(host)?;
        let listener = listener.map_or(Ok(-1), into_raw)?;
        let mut out = null_mut();
        // SAFETY: the text outlives the call, and the native layer takes ownership of the socket.
        checked(unsafe {
            finetune_store(host.as_ptr(), port, listener, milliseconds(timeout), &raw mut out)
        })?;
        made(out).map(Self)
    }

    /// Returns another connection to the same store, so that a waiting call on one does not block the other.
    pub(crate) fn another(&self) -> Result<Self> {
        let mut out = null_mut();
        // SAFETY: the store is alive.
        checked(unsafe { finetune_store_clone(self.0.as_ptr(), &raw mut out) })?;
        made(out).map(Self)
    }

    pub(crate) fn set(&self, key: &str, value: &[u8]) -> Result<()> {
        let key = text(key)?;
        // SAFETY: key and value outlive the call.
        checked(unsafe {
            finetune_store_set(self.0.as_ptr(), key.as_ptr(), value.as_ptr(), value.len())
        })
    }

    /// Adds `n` to a counter that starts at 0. Returns the sum.
    pub(crate) fn add(&self, key: &str, n: i64) -> Result<i64> {
        let (key, mut sum) = (text(key)?, 0);
        // SAFETY: key and sum outlive the call.
        checked(unsafe { finetune_store_add(self.0.as_ptr(), key.as_ptr(), n, &raw mut sum) })?;
        Ok(sum)
    }

    pub(crate) fn has(&self, key: &str) -> Result<bool> {
        let (key, mut has) = (text(key)?, false);
        // SAFETY: key and answer outlive the call.
        checked(unsafe { finetune_store_has(self.0.as_ptr(), key.as_ptr(), &raw mut has) })?;
        Ok(has)
    }

    /// Returns the value of a key. Waits until it is set, at most for the store's timeout.
    pub(crate) fn get(&self, key: &str) -> Result<Vec<u8>> {
        extern "C" fn take(context: *mut c_void, data: *const u8, n: usize) {
            // SAFETY: `get` passes a vector that outlives the call.
            let out = unsafe { &mut *context.cast::<Vec<u8>>() };
            if n > 0 {
                // SAFETY: the native layer passes the `n` bytes of a vector that it owns during the call.
                out.extend_from_slice(unsafe { std::slice::from_raw_parts(data, n) });
            }
        }
        let (key, mut value) = (text(key)?, Vec::<u8>::new());
        // SAFETY: key and context outlive the call.
        checked(unsafe {
            finetune_store_get(self.0.as_ptr(), key.as_ptr(), take, (&raw mut value).cast())
        })?;
        Ok(value)
    }
}

#[cfg(unix)]
fn into_raw(listener: TcpListener) -> Result<c_int> {
    use std::os::fd::IntoRawFd as _;
    Ok(listener.into_raw_fd())
}

#[cfg(windows)]
fn into_raw(listener: TcpListener) -> Result<c_int> {
    use std::os::windows::io::IntoRawSocket as _;
    c_int::try_from(listener.into_raw_socket()).map_err(Error::other)
}

/// The network interface on which a process listens for the others of its group.
#[derive(Debug, Clone)]
pub(crate) enum Interface {
    /// The interface with this address.
    Address(String),
    /// The interface with this name.
    Name(String),
}

/// A group of processes that communicate by gloo, and by NCCL for tensors on GPUs. A clone is another handle.
#[derive(Clone)]
pub(crate) struct Group(Arc<OwnedGroup>);

struct OwnedGroup(NonNull<c_void>);

// SAFETY: a c10d group is made for use by the main thread and autograd's threads at the same time; it locks.
unsafe impl Send for OwnedGroup {}
// SAFETY: as above.
unsafe impl Sync for OwnedGroup {}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").finish_non_exhaustive()
    }
}

impl Drop for OwnedGroup {
    fn drop(&mut self) {
        // SAFETY: the native layer created the group, and it is freed once.
        unsafe { finetune_group_free(self.0.as_ptr()) }
    }
}

impl Group {
    /// Connects `size` processes, each of which calls this function with its own rank.
    pub(crate) fn new(
        store: &Store,
        prefix: &str,
        rank: usize,
        size: usize,
        timeout: Duration,
        interface: &Interface,
    ) -> Result<Self> {
        let (address, is_interface) = match interface {
            Interface::Address(address) => (text(address)?, false),
            Interface::Name(name) => (text(name)?, true),
        };
        let (prefix, mut out) = (text(prefix)?, null_mut());
        // SAFETY: store and texts outlive the call; the group keeps its own handle to the store.
        checked(unsafe {
            finetune_group(
                store.0.as_ptr(),
                prefix.as_ptr(),
                rank as c_int,
                size as c_int,
                milliseconds(timeout),
                address.as_ptr(),
                is_interface,
                &raw mut out,
            )
        })?;
        Ok(Self(Arc::new(OwnedGroup(made(out)?))))
    }

    /// Adds NCCL, so that the group can reduce tensors on GPUs. libtorch's CUDA libraries must be loaded.
    pub(crate) fn add_nccl(&self, store: &Store, prefix: &str, timeout: Duration) -> Result<()> {
        let prefix = text(prefix)?;
        // SAFETY: group, store and text outlive the call.
        checked(unsafe {
            finetune_group_nccl(self.of(), store.0.as_ptr(), prefix.as_ptr(), milliseconds(timeout))
        })
    }

    fn of(&self) -> *mut c_void {
        self.0.0.as_ptr()
    }

    /// Waits until every process of the group has called it.
    pub(crate) fn barrier(&self) -> Result<()> {
        // SAFETY: the group is alive.
        checked(unsafe { finetune_group_barrier(self.of()) })
    }

    /// Replaces `t` by its sum over all processes. Gradients are not recorded.
    pub(crate) fn all_reduce(&self, t: &Tensor) -> Result<()> {
        // SAFETY: group and tensor are alive.
        checked(unsafe { finetune_group_all_reduce(self.of(), pointer(t)) })
    }

    /// Replaces `t` by the tensor of rank `root`.
    pub(crate) fn broadcast(&self, t: &Tensor, root: usize) -> Result<()> {
        // SAFETY: group and tensor are alive.
        checked(unsafe { finetune_group_broadcast(self.of(), pointer(t), root as c_int) })
    }

    /// Writes the tensor of rank `i` to tensor `i` of `outs`. All tensors have the same size.
    pub(crate) fn all_gather(&self, t: &Tensor, outs: &TensorList) -> Result<()> {
        // SAFETY: group, tensor and list are alive.
        checked(unsafe { finetune_group_all_gather(self.of(), pointer(t), outs.pointer()) })
    }

    /// Returns the sum of `t` over all processes, recorded for gradients. The group must outlive the
    /// backward pass.
    pub(crate) fn sum(&self, t: &Tensor) -> Result<Tensor> {
        let mut out = null_mut();
        // SAFETY: group and tensor are alive, and the caller owns the result, which is a new tensor.
        unsafe {
            checked(finetune_group_sum(self.of(), pointer(t), &raw mut out))?;
            Ok(Tensor::from_ptr(made(out)?.as_ptr().cast()))
        }
    }
}

/// Replaces the gradients of parameters by a list of tensors of equal length.
pub(crate) fn set_grads(params: &TensorList, grads: &TensorList) -> Result<()> {
    // SAFETY: both lists are alive.
    checked(unsafe { finetune_set_grads(params.pointer(), grads.pointer()) })
}

fn pointer(t: &Tensor) -> *mut c_void {
    t.as_ptr().cast_mut().cast()
}

/// libtorch's `Reducer`: averages gradients over all processes, bucket by bucket, while the backward pass
/// still computes the remaining gradients.
pub(crate) struct Reducer {
    of: NonNull<c_void>,
    _group: Group,
}

// SAFETY: this value is the only owner of the reducer and is not `Sync`; libtorch itself calls the reducer
// from the threads of its backward pass, under its own lock.
unsafe impl Send for Reducer {}

impl fmt::Debug for Reducer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reducer").finish_non_exhaustive()
    }
}

impl Drop for Reducer {
    fn drop(&mut self) {
        // SAFETY: the native layer created the reducer, and it is freed once.
        unsafe { finetune_reducer_free(self.of.as_ptr()) }
    }
}

impl Reducer {
    /// Adds gradient hooks to `params`, all of which must require gradients. `first` and `bytes` are the
    /// maximum sizes, in bytes, of the first bucket and of the others.
    pub(crate) fn new(
        group: &Group,
        params: &TensorList,
        (first, bytes): (usize, usize),
    ) -> Result<Self> {
        let mut out = null_mut();
        // SAFETY: group and list are alive; the reducer keeps its own handles to the tensors.
        checked(unsafe {
            finetune_reducer(group.of(), params.pointer(), first as i64, bytes as i64, &raw mut out)
        })?;
        Ok(Self { of: made(out)?, _group: group.clone() })
    }

    /// Prepares a forward pass. Must be called before each forward pass that a backward pass follows.
    pub(crate) fn before_forward(&self) -> Result<()> {
        // SAFETY: the reducer is alive.
        checked(unsafe { finetune_reducer_forward(self.of.as_ptr()) })
    }

    /// Prepares the backward pass from `loss`, after which the gradients are averages. Must be called before
    /// it.
    pub(crate) fn before_backward(&self, loss: &Tensor) -> Result<()> {
        // SAFETY: reducer and tensor are alive.
        checked(unsafe { finetune_reducer_backward(self.of.as_ptr(), pointer(loss)) })
    }
}
