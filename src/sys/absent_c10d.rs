//! Replaces libtorch's distributed engine when the documentation is built without libtorch. Its functions
//! are never called.

use super::TensorList;
use crate::error::{Error, Result};
use std::{net::TcpListener, time::Duration};
use tch::Tensor;

fn absent<T>() -> Result<T> {
    Err(Error::unsupported("doc-only", "this build is for documentation and has no libtorch"))
}

#[derive(Debug)]
pub(crate) struct Store(());

impl Store {
    pub(crate) fn connect(_: &str, _: u16, _: Option<TcpListener>, _: Duration) -> Result<Self> {
        absent()
    }
    pub(crate) fn another(&self) -> Result<Self> {
        absent()
    }
    pub(crate) fn set(&self, _: &str, _: &[u8]) -> Result<()> {
        absent()
    }
    pub(crate) fn add(&self, _: &str, _: i64) -> Result<i64> {
        absent()
    }
    pub(crate) fn has(&self, _: &str) -> Result<bool> {
        absent()
    }
    pub(crate) fn get(&self, _: &str) -> Result<Vec<u8>> {
        absent()
    }
}

#[derive(Debug, Clone)]
pub(crate) enum Interface {
    Address(String),
    Name(String),
}

#[derive(Debug, Clone)]
pub(crate) struct Group(());

impl Group {
    pub(crate) fn new(
        _: &Store,
        _: &str,
        _: usize,
        _: usize,
        _: Duration,
        _: &Interface,
    ) -> Result<Self> {
        absent()
    }
    pub(crate) fn add_nccl(&self, _: &Store, _: &str, _: Duration) -> Result<()> {
        absent()
    }
    pub(crate) fn barrier(&self) -> Result<()> {
        absent()
    }
    pub(crate) fn all_reduce(&self, _: &Tensor) -> Result<()> {
        absent()
    }
    pub(crate) fn broadcast(&self, _: &Tensor, _: usize) -> Result<()> {
        absent()
    }
    pub(crate) fn all_gather(&self, _: &Tensor, _: &TensorList) -> Result<()> {
        absent()
    }
    pub(crate) fn sum(&self, _: &Tensor) -> Result<Tensor> {
        absent()
    }
}

#[derive(Debug)]
pub(crate) struct Reducer(());

impl Reducer {
    pub(crate) fn new(_: &Group, _: &TensorList, _: (usize, usize)) -> Result<Self> {
        absent()
    }
    pub(crate) fn before_forward(&self) -> Result<()> {
        absent()
    }
    pub(crate) fn before_backward(&self, _: &Tensor) -> Result<()> {
        absent()
    }
}

pub(crate) fn set_grads(_: &TensorList, _: &TensorList) -> Result<()> {
    absent()
}
