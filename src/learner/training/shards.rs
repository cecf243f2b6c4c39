//! Gradients of the shards of a batch, added in an order independent of the number of processes.

use crate::{
    error::Result,
    model::Model,
    sys::{self, TensorList},
};
use tch::{Kind, Tensor};

/// The number of shards of a batch.
pub(super) const SHARDS: usize = 8;

/// The number of values at the start of a sum: the number of shards in it, the divisor of the loss, and the
/// loss times that divisor.
const HEAD: i64 = 3;

/// Adds leaves in a complete binary tree, in order of arrival: `((0+1)+(2+3))+…`. A leaf may be missing,
/// which differs from 0.
#[derive(Debug, Default)]
pub(super) struct Tree(Vec<(u32, Option<Tensor>)>);

impl Tree {
    /// Adds the next leaf, whose memory the sum may reuse.
    pub(super) fn push(&mut self, leaf: Option<Tensor>) -> Result<()> {
        let mut node = (0, leaf);
        while let Some((level, _)) = self.0.last()
            && *level == node.0
        {
            if let Some((level, left)) = self.0.pop() {
                node = (level + 1, added(left, node.1)?);
            }
        }
        self.0.push(node);
        Ok(())
    }

    /// Returns the sum of all leaves, whose number must be a power of two.
    pub(super) fn sum(mut self) -> Result<Option<Tensor>> {
        let mut sum = None;
        while let Some((_, left)) = self.0.pop() {
            sum = added(left, sum)?;
        }
        Ok(sum)
    }
}

fn added(left: Option<Tensor>, right: Option<Tensor>) -> Result<Option<Tensor>> {
    match (left, right) {
        (Some(mut left), Some(right)) => {
            let _ = left.f_add_(&right)?;
            Ok(Some(left))
        }
        (one, other) => Ok(one.or(other)),
    }
}

/// Describes how gradients and statistics are packed into a leaf, and unpacked from a sum.
pub(super) struct Layout {
    params: Vec<Tensor>,
    buffers: Vec<Tensor>,
    /// The running statistics before the batch, from which each shard starts.
    before: Vec<Tensor>,
    /// The gradients of earlier batches for which no step has been taken yet.
    gathered: Vec<Tensor>,
}

impl Layout {
    /// Sets existing gradients aside.
    pub(super) fn begin(model: &Model) -> Result<Self> {
        let learning = model.params().iter().filter(|p| p.tensor.requires_grad());
        let params: Vec<Tensor> = learning.map(|p| p.tensor.shallow_clone()).collect();
        let floats = model.buffers().iter().map(|(_, t)| t).filter(|t| t.is_floating_point());
        let buffers: Vec<Tensor> = floats.map(Tensor::shallow_clone).collect();
        let before = buffers.iter().map(Tensor::copy).collect();
        let gathered = params.iter().map(Tensor::grad).collect();
        let layout = Self { params, buffers, before, gathered };
        layout.clear()?;
        Ok(layout)
    }

    /// Returns the length of a leaf.
    pub(super) fn numbers(&self) -> i64 {
        let all = |list: &[Tensor]| list.iter().map(|t| t.numel() as i64).sum::<i64>();
        HEAD + self.params.len() as i64 + all(&self.params) + all(&self.buffers)
    }

    /// Clears the gradients, so that the next shard's are separate.
    fn clear(&self) -> Result<()> {
        let none: Vec<Tensor> = self.params.iter().map(|_| Tensor::new()).collect();
        sys::set_grads(&TensorList::new(&self.params)?, &TensorList::new(&none)?)
    }

    /// Restores the gradients of earlier batches and the running statistics when the batch is abandoned.
    pub(super) fn undo(&self) -> Result<()> {
        self.restore_buffers()?;
        sys::set_grads(&TensorList::new(&self.params)?, &TensorList::new(&self.gathered)?)
    }

    fn restore_buffers(&self) -> Result<()> {
        let _guard = tch::no_grad_guard();
        for (buffer, before) in self.buffers.iter().zip(&self.before) {
            buffer.shallow_clone().f_copy_(before)?;
        }
        Ok(())
    }

    /// Returns the leaf of a shard whose backward pass is complete, from `loss` times `weight`.
    pub(super) fn leaf(&self, loss: &Tensor, weight: &Tensor) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let float = |t: &Tensor| t.f_to_kind(Kind::Float)?.f_reshape([1]);
        let grads: Vec<Tensor> = self.params.iter().map(Tensor::grad).collect();
        let used: Vec<f32> = grads.iter().map(|g| f32::from(u8::from(g.defined()))).collect();
        let device = loss.device();
        let mut parts = vec![
            Tensor::f_ones([1], (Kind::Float, device))?,
            float(weight)?,
            float(&(loss.detach() * weight))?,
            Tensor::f_from_slice(&used)?.f_to_device(device)?,
        ];
        for (grad, param) in grads.iter().zip(&self.params) {
            parts.push(if grad.defined() {
                grad.f_to_kind(Kind::Float)?.f_reshape([-1])?
            } else {
                Tensor::f_zeros([param.numel() as i64], (Kind::Float, device))?
            });
        }
        for buffer in &self.buffers {
            parts.push(buffer.f_to_kind(Kind::Float)?.f_reshape([-1])?);
        }
        let leaf = Tensor::f_cat(&parts, 0)?;
        self.clear()?;
        self.restore_buffers()?;
        Ok(leaf)
    }

    /// Sets gradients and running statistics from the sum of all shards. Returns the mean loss.
    pub(super) fn finish(&self, sum: &Tensor) -> Result<Tensor> {
        let _guard = tch::no_grad_guard();
        let (shards, weight) = (sum.f_get(0)?, sum.f_get(1)?);
        let loss = sum.f_get(2)? / &weight;
        let mut from = HEAD;
        let mut take = |n: i64| {
            let part = sum.f_narrow(0, from, n);
            from += n;
            part
        };
        let used: Vec<f32> = Vec::try_from(&take(self.params.len() as i64)?)?;
        let mut grads = vec![];
        for ((param, gathered), used) in self.params.iter().zip(&self.gathered).zip(used) {
            let grad = take(param.numel() as i64)?.f_view_as(param)? / &weight;
            if used == 0.0 {
                grads.push(gathered.shallow_clone());
                continue;
            }
            // In the parameter's own memory layout, so that kernels add in the same order.
            let mut laid_out = param.detach().f_empty_like()?;
            laid_out.f_copy_(&grad)?;
            if gathered.defined() {
                let _ = laid_out.f_add_(gathered)?;
            }
            grads.push(laid_out);
        }
        sys::set_grads(&TensorList::new(&self.params)?, &TensorList::new(&grads)?)?;
        for buffer in &self.buffers {
            let mean = take(buffer.numel() as i64)?.f_view_as(buffer)? / &shards;
            buffer.shallow_clone().f_copy_(&mean)?;
        }
        Ok(loss)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves() -> Vec<Option<Tensor>> {
        let values = [1e8_f32, 1.0, -1e8, 0.3, 7.7, -0.1, 3e7, 1e-3];
        values.iter().map(|v| Some(Tensor::from_slice(&[*v]))).collect()
    }

    fn sum(leaves: Vec<Option<Tensor>>) -> Option<Tensor> {
        let mut tree = Tree::default();
        leaves.into_iter().for_each(|leaf| tree.push(leaf).unwrap());
        tree.sum().unwrap()
    }

    #[test]
    fn the_sum_of_subtrees_is_the_sum() {
        let bits = |t: Option<Tensor>| (t.unwrap().double_value(&[0]) as f32).to_bits();
        let whole = bits(sum(leaves()));
        for processes in [2, 4, 8] {
            let mut all = leaves();
            let mut parts = vec![];
            while !all.is_empty() {
                let rest = all.split_off(SHARDS / processes);
                parts.push(sum(std::mem::replace(&mut all, rest)));
            }
            assert_eq!(bits(sum(parts)), whole, "{processes}");
        }
    }

    #[test]
    fn a_missing_leaf_is_not_zero() {
        let mut some = leaves();
        some[0] = None;
        some[5] = None;
        let mut parts = vec![];
        while !some.is_empty() {
            let rest = some.split_off(2);
            parts.push(sum(std::mem::replace(&mut some, rest)));
        }
        let mut again = leaves();
        again[0] = None;
        again[5] = None;
        let value = |t: Option<Tensor>| t.unwrap().double_value(&[0]);
        assert_eq!(value(sum(parts)), value(sum(again)));
        assert!(sum(vec![None, None]).is_none());
    }
}
