//! A network: complete, or a body and a head.

use super::{body::Body, unet::Unet};
use tch::{Tensor, nn::ModuleT};

/// The network of a model.
#[derive(Debug)]
pub(super) enum Net {
    /// A body of children, and a head for its feature map.
    Parts { body: Body, head: Box<dyn ModuleT> },
    /// A body of children, and a decoder for the feature maps of several of them.
    Unet(Box<Unet>),
    /// All children from the input to the output.
    Children(Body),
    /// The user's module.
    Own(Box<dyn ModuleT>),
}

impl Net {
    /// Returns true if there are blocks that gradient checkpointing computes again.
    pub(super) fn has_blocks(&self) -> bool {
        match self {
            Self::Parts { body, .. } | Self::Children(body) => body.has_blocks(),
            // A decoder adds to the gradients of feature maps in the middle of the body. With recomputation,
            // the gradients would be added in another order and be rounded differently.
            Self::Unet(_) | Self::Own(_) => false,
        }
    }

    /// Returns the output of the body in evaluation mode; `None` for a network without body and head.
    pub(super) fn body_output(&self, x: &Tensor) -> Option<Tensor> {
        let Self::Parts { body, .. } = self else { return None };
        Some(body.forward_with(x, false, &mut |_, _| {}))
    }

    pub(super) fn forward_with(
        &self,
        x: &Tensor,
        train: bool,
        visit: &mut dyn FnMut(&str, &Tensor),
    ) -> Tensor {
        match self {
            Self::Parts { body, head } => {
                let features = body.forward_with(x, train, visit);
                let out = head.forward_t(&features, train);
                visit("head", &out);
                out
            }
            Self::Unet(unet) => unet.forward_with(x, train, visit),
            Self::Children(all) => all.forward_with(x, train, visit),
            Self::Own(module) => {
                let out = module.forward_t(x, train);
                visit("", &out);
                out
            }
        }
    }
}
