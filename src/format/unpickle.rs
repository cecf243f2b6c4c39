//! An interpreter of Python pickles that runs no code. It builds values and containers, and records calls.
//! [`globals`](super::globals) accepts a few names and rejects all others; [`resolve`](super::resolve)
//! evaluates the recorded calls.
//!
//! Based on the description of the opcodes in Python's
//! [`pickletools`](https://github.com/python/cpython/blob/main/Lib/pickletools.py).

use super::Why;
use super::globals::Global;
use std::{collections::HashMap, rc::Rc};

/// The maximum number of steps, which bounds the memory to about 300 MB.
const MAX_STEPS: usize = 4_000_000;
const MAX_NODES: usize = 1_000_000;

/// A value on the stack. Containers are indices of nodes, so that a container may contain itself.
#[derive(Debug, Clone)]
pub(super) enum Item {
    None,
    Bool(bool),
    Int(i64),
    /// An integer beyond 64 bits, little-endian.
    BigInt(Rc<[u8]>),
    Float(f64),
    Str(Rc<str>),
    Bytes(Rc<[u8]>),
    Global(Global),
    Node(usize),
}

/// A container, or an object as a recorded call.
#[derive(Debug)]
pub(super) enum Node {
    Tuple(Vec<Item>),
    List(Vec<Item>),
    Dict(Vec<(Item, Item)>),
    /// The call of a known name with arguments, and the state that is set afterwards.
    Made {
        by: Global,
        args: Item,
        state: Option<Item>,
    },
    /// A reference to data outside the pickle: a storage.
    Persistent(Item),
}

/// The result of one pickle.
#[derive(Debug)]
pub(super) struct Pickle {
    pub(super) nodes: Vec<Node>,
    pub(super) root: Item,
    /// The number of bytes read.
    pub(super) length: usize,
}

struct Machine<'a> {
    input: &'a [u8],
    at: usize,
    stack: Vec<Item>,
    marks: Vec<usize>,
    memo: HashMap<u32, Item>,
    nodes: Vec<Node>,
    copied: usize,
}

/// Reads the pickle at the start of `input`.
pub(super) fn unpickle(input: &[u8]) -> Result<Pickle, Why> {
    let mut machine = Machine {
        input,
        at: 0,
        stack: vec![],
        marks: vec![],
        memo: HashMap::new(),
        nodes: vec![],
        copied: 0,
    };
    for _ in 0..MAX_STEPS {
        if let Some(root) = machine.step()? {
            return Ok(Pickle { nodes: machine.nodes, root, length: machine.at });
        }
    }
    Err(format!("its pickle takes more than {MAX_STEPS} steps"))
}

impl<'a> Machine<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], Why> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.input.len());
        let end = end.ok_or_else(|| {
            format!("its pickle ends early: {n} bytes are announced at byte {}", self.at)
        })?;
        let taken = &self.input[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Why> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| "its pickle ends early".to_owned())
    }

    fn byte(&mut self) -> Result<u8, Why> {
        Ok(self.array::<1>()?[0])
    }

    /// Reads a length of `N` little-endian bytes, and that number of bytes.
    fn sized<const N: usize>(&mut self) -> Result<&'a [u8], Why> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(&self.array::<N>()?);
        let n = usize::try_from(u64::from_le_bytes(wide)).unwrap_or(usize::MAX);
        self.take(n)
    }

    fn line(&mut self) -> Result<&'a str, Why> {
        let rest = &self.input[self.at..];
        let n = rest.iter().position(|b| *b == b'\n').ok_or("its pickle ends early")?;
        self.at += n + 1;
        text(&rest[..n])
    }

    fn push(&mut self, item: Item) {
        self.stack.push(item);
    }

    fn pop(&mut self) -> Result<Item, Why> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(format!("its pickle takes from an empty stack at byte {}", self.at));
        }
        self.stack.pop().ok_or_else(|| "its pickle takes from an empty stack".into())
    }

    fn pop_mark(&mut self) -> Result<Vec<Item>, Why> {
        let mark = self.marks.pop().ok_or("its pickle has an unmatched mark")?;
        Ok(self.stack.split_off(mark))
    }

    fn node(&mut self, node: Node) -> Result<(), Why> {
        if self.nodes.len() == MAX_NODES {
            return Err(format!("its pickle creates more than {MAX_NODES} objects"));
        }
        self.stack.push(Item::Node(self.nodes.len()));
        self.nodes.push(node);
        Ok(())
    }

    /// Returns the container on top of the stack.
    fn top(&mut self) -> Result<&mut Node, Why> {
        match self.stack.last() {
            Some(Item::Node(i)) => Ok(&mut self.nodes[*i]),
            _ => Err(format!(
                "its pickle adds to something that is not a container at byte {}",
                self.at
            )),
        }
    }

    fn tuple(&mut self, n: usize) -> Result<(), Why> {
        let mut items = vec![];
        for _ in 0..n {
            items.push(self.pop()?);
        }
        items.reverse();
        self.node(Node::Tuple(items))
    }

    fn memoize(&mut self, key: u32) -> Result<(), Why> {
        let item =
            self.stack.last().ok_or("its pickle stores a value from an empty stack")?.clone();
        self.memo.insert(key, item);
        Ok(())
    }

    fn recall(&mut self, key: u32) -> Result<(), Why> {
        let item = self
            .memo
            .get(&key)
            .ok_or_else(|| format!("its pickle reads the unknown memo entry {key}"))?
            .clone();
        self.push(item);
        Ok(())
    }

    fn append(&mut self, items: Vec<Item>) -> Result<(), Why> {
        match self.top()? {
            Node::List(list) => {
                list.extend(items);
                Ok(())
            }
            other => Err(format!("its pickle appends to {}", described(other))),
        }
    }

    fn set(&mut self, items: Vec<Item>) -> Result<(), Why> {
        let Node::Dict(dict) = self.top()? else {
            return Err("its pickle sets entries of something that is not a dictionary".into());
        };
        if items.len() % 2 == 1 {
            return Err("its pickle has a key without a value".into());
        }
        let mut items = items.into_iter();
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            dict.push((key, value));
        }
        Ok(())
    }

    /// Records a call of a known name. An ordered dictionary is built at once, since entries may follow.
    fn call(&mut self) -> Result<(), Why> {
        let (args, function) = (self.pop()?, self.pop()?);
        let Item::Global(by) = function else {
            return Err("its pickle calls something that is not a name".into());
        };
        let Some(given) = items(&self.nodes, &args) else {
            return Err(format!("its pickle calls {} without a tuple", by.name()));
        };
        let node = if by == Global::OrderedDict {
            let pairs = given.first().map(|pairs| items(&self.nodes, pairs).unwrap_or_default());
            let pairs = pairs.unwrap_or_default();
            self.copied += pairs.len();
            if self.copied > MAX_STEPS {
                return Err("its pickle copies too much".into());
            }
            let pair = |p: &Item| match items(&self.nodes, p) {
                Some([key, value]) => Ok((key.clone(), value.clone())),
                _ => Err("its pickle builds a dictionary from invalid pairs".to_owned()),
            };
            Node::Dict(pairs.iter().map(pair).collect::<Result<_, _>>()?)
        } else {
            Node::Made { by, args, state: None }
        };
        self.node(node)
    }

    /// Records the state of an object.
    fn build(&mut self) -> Result<(), Why> {
        let given = self.pop()?;
        match self.top()? {
            // `_metadata`, which torch stores with the entries of a state dict.
            Node::Dict(_) => Ok(()),
            Node::Made { state, .. } => {
                *state = Some(given);
                Ok(())
            }
            other => Err(format!("its pickle sets a state on {}", described(other))),
        }
    }

    /// Executes one opcode; returns the result if it was the last.
    fn step(&mut self) -> Result<Option<Item>, Why> {
        let op = self.byte()?;
        match op {
            0x80 => {
                let protocol = self.byte()?;
                if protocol > 5 {
                    return Err(format!(
                        "its pickle has the protocol {protocol}; up to 5 are supported"
                    ));
                }
            }
            0x95 => drop(self.array::<8>()?), // a frame, which only contains the number of bytes to buffer
            b'.' => return self.pop().map(Some),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'N' => self.push(Item::None),
            0x88 => self.push(Item::Bool(true)),
            0x89 => self.push(Item::Bool(false)),
            b'K' => {
                let n = self.byte()?;
                self.push(Item::Int(n.into()));
            }
            b'M' => {
                let n = u16::from_le_bytes(self.array()?);
                self.push(Item::Int(n.into()));
            }
            b'J' => {
                let n = i32::from_le_bytes(self.array()?);
                self.push(Item::Int(n.into()));
            }
            0x8a => {
                let n = self.sized::<1>()?;
                self.push(integer(n));
            }
            0x8b => {
                let n = self.sized::<4>()?;
                self.push(integer(n));
            }
            b'G' => {
                let x = f64::from_be_bytes(self.array()?);
                self.push(Item::Float(x));
            }
            // `T` and `U` are Python 2's texts, which are used for names here.
            b'X' | b'T' => {
                let s = text(self.sized::<4>()?)?;
                self.push(Item::Str(s.into()));
            }
            0x8c | b'U' => {
                let s = text(self.sized::<1>()?)?;
                self.push(Item::Str(s.into()));
            }
            0x8d => {
                let s = text(self.sized::<8>()?)?;
                self.push(Item::Str(s.into()));
            }
            b'C' => {
                let b = self.sized::<1>()?;
                self.push(Item::Bytes(b.into()));
            }
            b'B' => {
                let b = self.sized::<4>()?;
                self.push(Item::Bytes(b.into()));
            }
            0x8e => {
                let b = self.sized::<8>()?;
                self.push(Item::Bytes(b.into()));
            }
            b')' => self.node(Node::Tuple(vec![]))?,
            b't' => {
                let items = self.pop_mark()?;
                self.node(Node::Tuple(items))?;
            }
            0x85..=0x87 => self.tuple(usize::from(op - 0x84))?,
            b']' => self.node(Node::List(vec![]))?,
            b'l' => {
                let items = self.pop_mark()?;
                self.node(Node::List(items))?;
            }
            b'}' => self.node(Node::Dict(vec![]))?,
            b'd' => {
                let items = self.pop_mark()?;
                self.node(Node::Dict(vec![]))?;
                self.set(items)?;
            }
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.append(items)?;
            }
            b's' => {
                let (value, key) = (self.pop()?, self.pop()?);
                self.set(vec![key, value])?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set(items)?;
            }
            b'q' => {
                let key = self.byte()?;
                self.memoize(key.into())?;
            }
            b'r' => {
                let key = u32::from_le_bytes(self.array()?);
                self.memoize(key)?;
            }
            0x94 => self.memoize(self.memo.len() as u32)?,
            b'h' => {
                let key = self.byte()?;
                self.recall(key.into())?;
            }
            b'j' => {
                let key = u32::from_le_bytes(self.array()?);
                self.recall(key)?;
            }
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.push(Item::Global(Global::find(module, name)?));
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Item::Str(name), Item::Str(module)) => {
                    self.push(Item::Global(Global::find(&module, &name)?));
                }
                _ => return Err("its pickle looks up something that is not a name".into()),
            },
            b'R' | 0x81 => self.call()?,
            b'b' => self.build()?,
            b'Q' => {
                let id = self.pop()?;
                self.node(Node::Persistent(id))?;
            }
            other => {
                return Err(format!(
                    "its pickle has opcode {other:#04x} at byte {}, which is not among those that \
                     `torch.save` writes",
                    self.at - 1
                ));
            }
        }
        Ok(None)
    }
}

fn text(bytes: &[u8]) -> Result<&str, Why> {
    std::str::from_utf8(bytes).map_err(|_| "its pickle has a text that is not UTF-8".into())
}

/// Parses a little-endian integer in two's complement.
fn integer(bytes: &[u8]) -> Item {
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    if bytes.len() > 8 {
        return Item::BigInt(bytes.into());
    }
    let mut wide = if negative { [0xff; 8] } else { [0; 8] };
    wide[..bytes.len()].copy_from_slice(bytes);
    Item::Int(i64::from_le_bytes(wide))
}

/// Returns the items of a tuple or list.
pub(super) fn items<'n>(nodes: &'n [Node], item: &Item) -> Option<&'n [Item]> {
    let Item::Node(i) = item else { return None };
    match &nodes[*i] {
        Node::Tuple(items) | Node::List(items) => Some(items),
        _ => None,
    }
}

fn described(node: &Node) -> &'static str {
    match node {
        Node::Tuple(_) => "a tuple",
        Node::List(_) => "a list",
        Node::Dict(_) => "a dictionary",
        Node::Made { by, .. } => by.name(),
        Node::Persistent(_) => "a storage",
    }
}
