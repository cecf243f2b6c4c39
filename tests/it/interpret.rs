//! Interpretation of several categories and of numbers, from a learner with known outputs: its network
//! returns its input.

use finetune::{
    Result,
    data::{Arrays, DataLoaders, LoaderOptions},
    interpret::{Interpretation, ItemLoss, MultiLabelInterpretation, RegressionInterpretation},
    learner::{Learner, PredictOptions},
    loss::{BceWithLogits, Loss, Mse},
    model::Model,
    sample::Task,
};
use tch::{Device, Tensor, nn};

/// Returns a learner whose network returns its `n` input numbers.
fn identity(n: i64, train: Arrays, valid: Arrays, loss: impl Loss + 'static) -> Result<Learner> {
    let options = LoaderOptions::new().bs(2).shuffle(false).drop_last(false).device(Device::Cpu);
    let dls = DataLoaders::from_arrays(train, valid, options)?;
    let vs = nn::VarStore::new(Device::Cpu);
    let config = nn::LinearConfig { bias: false, ..Default::default() };
    let mut linear = nn::linear(vs.root() / "identity", n, n, config);
    tch::no_grad(|| linear.ws.copy_(&Tensor::eye(n, (tch::Kind::Float, Device::Cpu))));
    let model = Model::from_module(vs, nn::seq_t().add(linear))?;
    Ok(Learner::new(dls, model, loss)?.quiet())
}

fn rows<const R: usize, const C: usize>(x: [[f32; C]; R], y: [[f32; C]; R], task: &Task) -> Arrays {
    let tensor = |all: [[f32; C]; R]| Tensor::from_slice(all.as_flattened()).view([-1, C as i64]);
    Arrays::from_tensors(&tensor(x), &tensor(y), task.clone()).unwrap()
}

fn near(ours: &[f64], wanted: &[f64]) {
    assert_eq!(ours.len(), wanted.len());
    for (a, b) in ours.iter().zip(wanted) {
        assert!((a - b).abs() < 1e-6, "{ours:?} instead of {wanted:?}");
    }
}

#[test]
fn several_categories() -> Result<()> {
    let task = Task::Categories { vocab: ["cat".into(), "dog".into(), "indoors".into()].into() };
    // Outputs above 0 are predicted.
    let valid = rows(
        [[2.0, -1.0, 0.5], [-3.0, 1.0, 4.0], [1.0, 1.0, -1.0]],
        [[1.0, 0.0, 0.0], [0.0, 1.0, 1.0], [0.0, 1.0, 1.0]],
        &task,
    );
    let train =
        rows([[5.0, -5.0, -5.0], [-5.0, -5.0, 5.0]], [[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]], &task);
    let mut learn = identity(3, train, valid, BceWithLogits::new())?;

    let interp = MultiLabelInterpretation::from_learner(&mut learn)?;
    let counts = |i: &MultiLabelInterpretation| -> Vec<_> {
        i.labels().iter().map(|l| (l.hits, l.missed, l.false_alarms)).collect()
    };
    assert_eq!(counts(&interp), [(1, 0, 1), (2, 0, 0), (1, 1, 1)]);
    // The mean over the categories of -log(sigmoid): of the output if the category is true, otherwise of
    // its negative.
    let loss = |z: [f64; 3]| z.iter().map(|z| (-z).exp().ln_1p()).sum::<f64>() / 3.0;
    let wanted = [loss([2.0, 1.0, -0.5]), loss([3.0, 1.0, 4.0]), loss([-1.0, 1.0, -1.0])];
    let losses: Vec<f64> = interp.predictions().losses.iter().map(|l| f64::from(*l)).collect();
    near(&losses, &wanted);
    let order: Vec<_> = interp.top_losses(2).iter().map(|l| l.item).collect();
    // The validation items follow the two training items.
    assert_eq!(order, [4, 2]);
    // Of all pairs of an image with "indoors" and one without, half are in the right order.
    assert_eq!(interp.roc("indoors")?.auc, Some(0.5));
    assert_eq!(interp.roc("dog")?.auc, Some(1.0));
    let report = interp.classification_report();
    near(&[report.rows[2].precision, report.rows[2].recall], &[0.5, 0.5]);

    let loader = learn.dls().train().clone();
    let train = MultiLabelInterpretation::from_loader(&mut learn, &loader)?;
    assert_eq!(counts(&train), [(1, 1, 0), (0, 0, 0), (1, 0, 0)]);
    assert_eq!(train.predictions().items, [0, 1]);
    assert_eq!(train.top_losses(1)[0].item, 1);
    let e = RegressionInterpretation::from_loader(&mut learn, &loader).unwrap_err().to_string();
    assert!(e.contains("numbers"), "{e}");
    Ok(())
}

#[test]
fn numbers() -> Result<()> {
    let task = Task::Values { n: 2 };
    let valid = rows(
        [[1.0, 10.0], [2.0, 20.0], [4.0, 30.0], [5.0, 44.0]],
        [[1.0, 12.0], [2.0, 20.0], [3.0, 30.0], [6.0, 40.0]],
        &task,
    );
    let train = rows([[0.0, 1.0], [2.0, 3.0]], [[0.5, 1.0], [2.0, 6.0]], &task);
    let mut learn = identity(2, train, valid, Mse)?;

    let interp = RegressionInterpretation::from_learner(&mut learn)?;
    near(&interp.mae(), &[0.5, 1.5]);
    near(&interp.rmse(), &[0.5f64.sqrt(), 5f64.sqrt()]);
    // 1 - 2 / 14 and 1 - 20 / 443: the squared errors divided by the squared deviations from the mean
    // target.
    near(&interp.r2(), &[1.0 - 2.0 / 14.0, 1.0 - 20.0 / 443.0]);
    let residuals: Vec<f64> = interp.residuals().iter().copied().collect();
    near(&residuals, &[0.0, -2.0, 0.0, 0.0, 1.0, 0.0, -1.0, 4.0]);
    let top: Vec<(usize, f32)> =
        interp.top_losses(3).iter().map(|l: &ItemLoss| (l.item, l.loss)).collect();
    assert_eq!(top, [(5, 8.5), (2, 2.0), (4, 0.5)]);

    let loader = learn.dls().train().clone();
    let train = RegressionInterpretation::from_loader(&mut learn, &loader)?;
    near(&train.mae(), &[0.25, 1.5]);
    assert_eq!(train.predictions().items, [0, 1]);
    let any = Interpretation::from_loader(&mut learn, &loader)?;
    assert_eq!(any.top_losses(1)[0].loss, 4.5);

    let all = learn.get_preds_with(&PredictOptions::new().inputs(true))?;
    let mut fewer = all.clone();
    (fewer.items, fewer.losses) = (vec![2], vec![]);
    (fewer.targets, fewer.decoded) = (fewer.targets[..1].to_vec(), fewer.decoded[..1].to_vec());
    fewer.preds = fewer.preds.slice_move(ndarray::s![..1, ..]);
    let e = Interpretation::from_predictions(fewer).unwrap_err().to_string();
    assert!(e.contains("of shape [4, 2] are not of 1 items"), "{e}");
    let some = Interpretation::from_predictions(all)?.select(&[3, 0])?;
    assert_eq!(some.items, [5, 2]);
    let inputs: Vec<f32> = some.inputs.unwrap().iter().copied().collect();
    assert_eq!(inputs, [5.0, 44.0, 1.0, 10.0], "the inputs of the selected items");
    assert_eq!(some.placements.len(), 2);
    let e = MultiLabelInterpretation::from_learner(&mut learn).unwrap_err().to_string();
    assert!(e.contains("several categories"), "{e}");
    Ok(())
}
