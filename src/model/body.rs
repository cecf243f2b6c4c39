//! Networks as lists of named children, which can be cut and split.

use super::recompute::Block;
use tch::{
    Tensor,
    nn::{self, ModuleT, Path},
};

/// Builds the layer of one child at its variable path.
type Make<'a> = Box<dyn FnOnce(&Path<'_>) -> Box<dyn ModuleT> + 'a>;

/// The children of a network from its input to its output, not built yet. Children beyond the cut are never
/// built, so their variables do not exist.
///
/// ```
/// use finetune::model::{Arch, ArchSpec, HeadOptions};
/// use finetune::{seed::Seed, tch::{Device, nn}};
///
/// let arch = Arch::new("two-convolutions", |net, n_in| {
///     let conv = nn::ConvConfig { stride: 2, padding: 1, ..Default::default() };
///     net.add("stem", move |p| nn::conv2d(p, n_in, 8, 3, conv));
///     net.step("act", |x| x.relu());
///     net.add("late", move |p| nn::conv2d(p, 8, 24, 3, conv));
/// })
/// .split(&[2]); // `stem` and `act` are group 0, `late` is group 1, the head is group 2
/// let spec = ArchSpec::new(&arch, 3, 5, HeadOptions::new());
/// let model = spec.build(Device::Cpu, Seed(1))?;
/// assert_eq!(model.groups(), 3);
/// # Ok::<(), finetune::Error>(())
/// ```
#[derive(derive_more::Debug, Default)]
pub struct Children<'a> {
    list: Vec<Child<'a>>,
}

/// One child, not built yet.
#[derive(derive_more::Debug)]
struct Child<'a> {
    name: String,
    /// True if its variables belong to the network itself, not to a path with the name of the child.
    at_root: bool,
    layer: LayerStart,
    /// The part that gradient checkpointing computes again.
    blocks: Blocks,
    /// True if its output is `[N, H, W, C]`.
    channels_last: bool,
    #[debug(skip)]
    make: Make<'a>,
}

/// The position of a child relative to the layers that can have their own learning rates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LayerStart {
    /// The child is in the same layer as the previous one.
    Joins,
    /// The child is the first of a layer.
    Starts,
    /// The child is the first after the last layer, where pooling and the classifier start.
    Ends,
}

/// The part of a child that gradient checkpointing computes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocks {
    None,
    /// The whole child.
    Whole,
    /// Blocks inside the child, which is a [`Chain`].
    Inside,
}

impl<'a> Children<'a> {
    /// Appends a layer. Its variables are named after it; a dot in the name is a level.
    pub fn add<M: ModuleT + 'static>(
        &mut self,
        name: impl Into<String>,
        make: impl FnOnce(&Path<'_>) -> M + 'a,
    ) -> &mut Self {
        self.push(name.into(), false, make)
    }

    /// Appends a layer whose variables are named by `make`, from the root of the network.
    pub(super) fn at_root<M: ModuleT + 'static>(
        &mut self,
        name: impl Into<String>,
        make: impl FnOnce(&Path<'_>) -> M + 'a,
    ) -> &mut Self {
        self.push(name.into(), true, make)
    }

    fn push<M: ModuleT + 'static>(
        &mut self,
        name: String,
        at_root: bool,
        make: impl FnOnce(&Path<'_>) -> M + 'a,
    ) -> &mut Self {
        let make: Make<'a> = Box::new(|path| Box::new(make(path)));
        self.list.push(Child {
            name,
            at_root,
            layer: LayerStart::Joins,
            blocks: Blocks::None,
            channels_last: false,
            make,
        });
        self
    }

    /// Marks the last child as the first of a layer that can have its own learning rate.
    pub(super) fn layer(&mut self) -> &mut Self {
        self.mark(LayerStart::Starts)
    }

    /// Marks the last child as the first after the last such layer, unless an earlier child is marked.
    pub(super) fn last_layer(&mut self) -> &mut Self {
        let first = self.list.iter().all(|child| child.layer != LayerStart::Ends);
        if first { self.mark(LayerStart::Ends) } else { self }
    }

    /// Marks the last child as a block, whose activations gradient checkpointing computes again.
    pub(super) fn block(&mut self) -> &mut Self {
        self.set_blocks(Blocks::Whole)
    }

    /// Marks the last child as a [`Chain`] of such blocks.
    pub(super) fn chain(&mut self) -> &mut Self {
        self.set_blocks(Blocks::Inside)
    }

    /// Marks the output of the last child as `[N, H, W, C]`, so that a decoder can permute it. The default is
    /// `[N, C, H, W]`.
    pub(super) fn channels_last(&mut self) -> &mut Self {
        if let Some(last) = self.list.last_mut() {
            last.channels_last = true;
        }
        self
    }

    fn set_blocks(&mut self, blocks: Blocks) -> &mut Self {
        if let Some(last) = self.list.last_mut() {
            last.blocks = blocks;
        }
        self
    }

    fn mark(&mut self, layer: LayerStart) -> &mut Self {
        if let Some(last) = self.list.last_mut() {
            last.layer = layer;
        }
        self
    }

    /// Returns the indices of the children that start a layer, one per block, as splits for layer-wise learning
    /// rates. If the network does not mark its layers, every child is a layer.
    pub(super) fn layers(&self) -> Vec<usize> {
        let marked = |child: &Child<'_>| child.layer != LayerStart::Joins;
        let any = self.list.iter().any(marked);
        let starts = self.list.iter().enumerate().skip(1).filter(|(_, c)| !any || marked(c));
        starts.map(|(i, _)| i).collect()
    }

    /// Appends a function, which has no variables.
    pub fn step(
        &mut self,
        name: impl Into<String>,
        f: impl Fn(&Tensor) -> Tensor + Send + 'static,
    ) -> &mut Self {
        self.add(name, |_| nn::func(f))
    }

    /// Returns the names of the children.
    pub(super) fn names(&self) -> Vec<String> {
        self.list.iter().map(|child| child.name.clone()).collect()
    }

    /// Returns true if the child at `i` is the first after the last layer.
    pub(super) fn ends_at(&self, i: usize) -> bool {
        self.list.get(i).is_some_and(|child| child.layer == LayerStart::Ends)
    }

    /// Builds the first `cut` children, or all but the last `-cut` if it is negative. The group of a child
    /// is the number of `splits` that do not exceed its position.
    pub(super) fn build(self, path: &Path<'_>, cut: Option<i64>, splits: &[usize]) -> Body {
        let kept = kept(self.list.len(), cut);
        let mut has_blocks = false;
        let children = self.list.into_iter().take(kept).enumerate().map(|(i, child)| {
            let Child { name, at_root, blocks, channels_last, make, .. } = child;
            has_blocks |= blocks != Blocks::None;
            let group = splits.iter().filter(|s| i >= **s).count();
            let levels = name.split('.').filter(|_| !at_root);
            let path = levels.fold(path.set_group(group), |path, level| path / level);
            let layer = make(&path);
            let whole = blocks == Blocks::Whole;
            let layer: Box<dyn ModuleT> = if whole { Box::new(Block::of(layer)) } else { layer };
            BuiltChild { name, channels_last, layer }
        });
        Body { children: children.collect(), has_blocks }
    }
}

/// Returns the number of the `n` children that a cut keeps.
pub(super) fn kept(n: usize, cut: Option<i64>) -> usize {
    match cut {
        None => n,
        Some(cut) if cut < 0 => n.saturating_sub(cut.unsigned_abs() as usize),
        Some(cut) => n.min(cut as usize),
    }
}

/// One built child.
#[derive(Debug)]
struct BuiltChild {
    name: String,
    channels_last: bool,
    layer: Box<dyn ModuleT>,
}

/// The built children of a network.
#[derive(Debug)]
pub(super) struct Body {
    children: Vec<BuiltChild>,
    has_blocks: bool,
}

impl Body {
    /// Returns true if there are blocks that gradient checkpointing computes again.
    pub(super) fn has_blocks(&self) -> bool {
        self.has_blocks
    }

    /// Returns the output. `visit` receives the output of each child, before the next child may overwrite
    /// it.
    pub(super) fn forward_with(
        &self,
        x: &Tensor,
        train: bool,
        visit: &mut dyn FnMut(&str, &Tensor),
    ) -> Tensor {
        self.children.iter().fold(x.shallow_clone(), |x, child| {
            let x = child.layer.forward_t(&x, train);
            visit(&child.name, &x);
            x
        })
    }

    /// Returns the output `out` of the child at `i` as a feature map, `[N, C, H, W]`; `None` if it is not one.
    pub(super) fn feature_map(&self, i: usize, out: &Tensor) -> Option<Tensor> {
        let child = self.children.get(i).filter(|_| out.dim() == 4)?;
        Some(if child.channels_last { out.permute([0, 3, 1, 2]) } else { out.shallow_clone() })
    }
}

impl ModuleT for Body {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.forward_with(x, train, &mut |_, _| {})
    }
}

/// Sequential blocks, for a child that has several.
#[derive(Debug)]
pub(super) struct Chain(Vec<Block>);

impl Chain {
    pub(super) fn new<M: ModuleT + 'static>(blocks: impl Iterator<Item = M>) -> Self {
        Self(blocks.map(|block| Block::of(Box::new(block))).collect())
    }
}

impl ModuleT for Chain {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.0.iter().fold(x.shallow_clone(), |x, layer| layer.forward_t(&x, train))
    }
}
