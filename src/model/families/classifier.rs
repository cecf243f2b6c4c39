//! The last layers of most networks.

use super::linear::linear;
use crate::model::body::Children;
use tch::{
    Kind, Tensor,
    nn::{Linear, Module as _, ModuleT},
};

/// Appends dropout and a linear layer `name` for vectors.
pub(super) fn linear_classifier(
    net: &mut Children<'_>,
    name: &'static str,
    (n_in, n_out): (i64, i64),
    drop: f64,
) {
    net.add(name, move |p| Classifier { fc: linear(p, n_in, n_out, true), drop, pools: false });
    net.last_layer();
}

/// Appends pooling of a feature map, dropout and a linear layer: `name.fc`.
pub(super) fn pooled_classifier(
    net: &mut Children<'_>,
    name: &'static str,
    fc: &'static str,
    (n_in, n_out): (i64, i64),
    drop: f64,
) {
    net.add(name, move |p| Classifier {
        fc: linear(&(p / fc), n_in, n_out, true),
        drop,
        pools: true,
    });
    net.last_layer();
}

/// Optional pooling, dropout and a linear layer.
#[derive(Debug)]
struct Classifier {
    fc: Linear,
    drop: f64,
    pools: bool,
}

impl ModuleT for Classifier {
    fn forward_t(&self, x: &Tensor, train: bool) -> Tensor {
        let x = if self.pools {
            x.mean_dim([2i64, 3].as_slice(), false, None::<Kind>)
        } else {
            x.shallow_clone()
        };
        self.fc.forward(&x.dropout(self.drop, train))
    }
}
