//! A network as a list of named children, which can be cut and split.

use tch::{
    Tensor,
    nn::{self, ModuleT, Path},
};

/// Builds one child's layer where its variables belong.
type Make<'a> = Box<dyn FnOnce(&Path<'_>) -> Box<dyn ModuleT> + 'a>;

/// The children of a network from its input to its output, still to be built: a child beyond the cut
/// never is, so its variables do not exist.
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
    #[debug(skip)]
    list: Vec<(String, Make<'a>)>,
}

impl<'a> Children<'a> {
    /// Appends a layer. Its variables are named after it; a dot in the name is a level.
    pub fn add<M: ModuleT + 'static>(
        &mut self,
        name: impl Into<String>,
        make: impl FnOnce(&Path<'_>) -> M + 'a,
    ) -> &mut Self {
        self.list.push((name.into(), Box::new(|path| Box::new(make(path)))));
        self
    }

    /// Appends a function, which has no variables.
    pub fn step(
        &mut self,
        name: impl Into<String>,
        f: impl Fn(&Tensor) -> Tensor + Send + 'static,
    ) -> &mut Self {
        self.add(name, |_| nn::func(f))
    }

    /// The names of the children.
    pub(super) fn names(&self) -> Vec<String> {
        self.list.iter().map(|(name, _)| name.clone()).collect()
    }

    /// Builds the first `cut` children, or all but the last `-cut` if it is negative. A child belongs to
    /// the group of the number of `splits` that do not exceed its position.
    pub(super) fn build(self, path: &Path<'_>, cut: Option<i64>, splits: &[usize]) -> Body {
        let kept = kept(self.list.len(), cut);
        let children = self.list.into_iter().take(kept).enumerate().map(|(i, (name, make))| {
            let group = splits.iter().filter(|s| i >= **s).count();
            let path = name.split('.').fold(path.set_group(group), |path, level| path / level);
            (name, make(&path))
        });
        Body { children: children.collect() }
    }
}

/// How many of `n` children a cut leaves.
pub(super) fn kept(n: usize, cut: Option<i64>) -> usize {
    match cut {
        None => n,
        Some(cut) if cut < 0 => n.saturating_sub(cut.unsigned_abs() as usize),
        Some(cut) => n.min(cut as usize),
    }
}

/// The children of a network, built.
#[derive(Debug)]
pub(super) struct Body {
    children: Vec<(String, Box<dyn ModuleT>)>,
}

impl Body {
    /// The output; `visit` sees that of each child, before the next child may overwrite it.
    pub(super) fn forward_with(
        &self,
        x: &Tensor,
        train: bool,
        visit: &mut dyn FnMut(&str, &Tensor),
    ) -> Tensor {
        self.children.iter().fold(x.shallow_clone(), |x, (name, child)| {
            let x = child.forward_t(&x, train);
            visit(name, &x);
            x
        })
    }
}

impl ModuleT for Body {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.forward_with(x, train, &mut |_, _| {})
    }
}

/// Layers one after another, for a child that has several.
#[derive(Debug)]
pub(super) struct Chain<M>(pub(super) Vec<M>);

impl<M: ModuleT> ModuleT for Chain<M> {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        self.0.iter().fold(x.shallow_clone(), |x, layer| layer.forward_t(&x, train))
    }
}
