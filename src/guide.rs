//! The guide, one page per topic. The code on the pages is tested.
//!
//! Learn: [a first model](first_model), [describing data](data_block), [presizing and
//! augmentation](presizing), [masks, points and boxes](masks_points_boxes), [the loss of a classifier](cross_entropy), [learning
//! rates](learning_rates), [transfer learning](transfer_learning).
//!
//! Choose: [architectures and precision](architectures), [networks of timm and torchvision](networks), [which network,
//! which recipe](recipes), [speed],
//! [a GPU](gpu), [more than one processor](distributed), [reproducibility], [checkpoints].
//!
//! Use and extend: [interpretation], [inference and deployment](inference), [writing a
//! callback](callbacks), [coming from fastai](from_fastai).

/// A page of `docs/`. In the repository, its links point to files; in the API reference, to pages and items.
/// Markdown uses the first definition of a link, so the `*.links` files come before the page.
macro_rules! pages {
    ($($page:ident $file:literal $(after $before:literal)?;)*) => {
        $(
            #[doc = include_str!("../docs/guide.links")]
            #[cfg_attr(feature = "show", doc = include_str!("../docs/guide-show.links"))]
            $(#[doc = include_str!($before)])?
            #[doc = include_str!($file)]
            pub mod $page {}
        )*
    };
}

pages! {
    first_model "../docs/first-model.md";
    data_block "../docs/data-block.md";
    presizing "../docs/presizing.md";
    masks_points_boxes "../docs/masks-points-boxes.md";
    cross_entropy "../docs/cross-entropy.md" after "../docs/cross-entropy.images";
    learning_rates "../docs/learning-rates.md";
    transfer_learning "../docs/transfer-learning.md";
    architectures "../docs/architectures.md";
    networks "../docs/networks.md";
    recipes "../docs/recipes.md";
    interpretation "../docs/interpretation.md";
    inference "../docs/inference.md";
    shipping "../docs/shipping.md";
    callbacks "../docs/callbacks.md";
    reproducibility "../docs/reproducibility.md";
    checkpoints "../docs/checkpoints.md";
    speed "../docs/speed.md";
    gpu "../docs/gpu.md";
    distributed "../docs/distributed.md";
    from_fastai "../docs/from-fastai.md";
}
