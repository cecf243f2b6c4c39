//! Files that are parsed while they are read.

use prost::bytes::Buf;
use std::{
    fs::File,
    io::{self, Read as _},
};

/// The length of a part in bytes.
const PART: usize = 1 << 16;

/// The bytes of a file in parts, so that the whole file is never in memory beside its parsed messages.
pub(crate) struct Parts {
    file: File,
    /// The bytes that are not parsed, including those of the part.
    left: usize,
    part: Vec<u8>,
    /// The bytes of the part that are parsed.
    parsed: usize,
    failed: Option<io::Error>,
}

impl Parts {
    /// Reads the first part of a file, whose length is `bytes`.
    pub(crate) fn new(file: File, bytes: u64) -> Self {
        let left = usize::try_from(bytes).unwrap_or(usize::MAX);
        let mut parts = Self { file, left, part: vec![], parsed: 0, failed: None };
        parts.next();
        parts
    }

    /// Returns the error that ended the bytes early, if any.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.failed.map_or(Ok(()), Err)
    }

    fn next(&mut self) {
        self.part.resize(self.left.min(PART), 0);
        self.parsed = 0;
        if let Err(why) = self.file.read_exact(&mut self.part) {
            self.failed = Some(why);
            self.left = 0;
            self.part.clear();
        }
    }
}

impl Buf for Parts {
    fn remaining(&self) -> usize {
        self.left
    }

    fn chunk(&self) -> &[u8] {
        &self.part[self.parsed..]
    }

    fn advance(&mut self, mut n: usize) {
        while n > 0 && self.left > 0 {
            let some = n.min(self.chunk().len());
            n -= some;
            self.parsed += some;
            self.left -= some;
            if self.chunk().is_empty() {
                self.next();
            }
        }
    }
}
