//! Losses, their gradients, activations and decoding.
use crate::frame::{Golden, Report, Tol, flat, ints, number};
use finetune::loss::{
    Bce, BceWithLogits, CrossEntropy, Dice, Focal, L1, LabelSmoothing, Loss, Mse,
};
use serde_json::Value;
use tch::{Kind, Tensor, kind::FLOAT_CPU};

const CLOSE: Tol = Tol { rtol: 1e-5, atol: 1e-6 };

pub(crate) fn check(golden: &Golden, report: &mut Report) {
    for case in golden.cases("cases") {
        report.case();
        one(golden, case, report);
    }
    textbook(golden, report);
    report.case();
    let refused = &golden.json["bce_pos_weight_flatten_true"];
    if refused.get("raises").is_some() {
        let pred = (Tensor::arange(12, FLOAT_CPU).view([4, 3]) - 5.0) * 0.7;
        let y = Tensor::zeros([4, 3], FLOAT_CPU);
        let loss = BceWithLogits::new().pos_weight(vec![1.0, 2.0, 3.0]);
        let with_weight = loss.elements(&pred, &y).unwrap();
        // Without positives, the weights of positives have no effect.
        let without = BceWithLogits::new().elements(&pred, &y).unwrap();
        report.tensor("pos_weight without flatten", &with_weight, &without, CLOSE);
        report.differs(
            "BCEWithLogitsLossFlat(pos_weight, flatten=True)",
            "`pos_weight` needs no other shape, so there is no `flatten`",
        );
    }
}

fn text(v: &Value) -> &str {
    v.as_str().unwrap_or_else(|| panic!("{v} is not a string"))
}

pub(crate) fn loss(golden: &Golden, case: &Value) -> Box<dyn Loss> {
    let params = &case["params"];
    let given = |key: &str| params.get(key).map(number);
    let weight = |key: &str| {
        let name = params.get(key).map(text)?;
        Some(flat(&golden.tensor(name)).iter().map(|v| *v as f32).collect::<Vec<_>>())
    };
    let axis = given("axis").map_or(-1, |a| a as i64);
    match text(&case["loss"]) {
        "CrossEntropyLossFlat" => {
            let mut loss = CrossEntropy::new().axis(axis);
            if let Some(index) = given("ignore_index") {
                loss = loss.ignore_index(index as i64);
            }
            if let Some(w) = weight("weight") {
                loss = loss.weight(w);
            }
            Box::new(loss.label_smoothing(given("label_smoothing").unwrap_or(0.0)))
        }
        "LabelSmoothingCrossEntropy" | "LabelSmoothingCrossEntropyFlat" => {
            let loss = LabelSmoothing::new(given("eps").unwrap_or(0.1)).axis(axis);
            Box::new(weight("weight").map_or(loss.clone(), |w| loss.weight(w)))
        }
        "FocalLossFlat" => {
            let loss = Focal::new().gamma(given("gamma").unwrap_or(2.0)).axis(axis);
            Box::new(weight("weight").map_or(loss.clone(), |w| loss.weight(w)))
        }
        "BCEWithLogitsLossFlat" => {
            let mut loss = BceWithLogits::new();
            if let Some(w) = weight("weight") {
                loss = loss.weight(w);
            }
            if let Some(w) = weight("pos_weight") {
                loss = loss.pos_weight(w);
            }
            Box::new(given("thresh").map_or(loss.clone(), |t| loss.thresh(t)))
        }
        "DiceLoss" => {
            let square = params.get("square_in_union").is_some_and(|v| v == true);
            Box::new(Dice::new().smooth(given("smooth").unwrap_or(1e-6)).square_in_union(square))
        }
        "BCELossFlat" => Box::new(Bce),
        "MSELossFlat" => Box::new(Mse),
        "L1LossFlat" => Box::new(L1),
        other => panic!("no loss for `{other}`"),
    }
}

fn one(golden: &Golden, case: &Value, report: &mut Report) {
    let key = text(&case["key"]);
    let name = format!("{key} {}{}", text(&case["loss"]), case["params"]);
    let tensor = |what: &str| golden.tensor(&format!("{key}.{what}"));
    let loss = loss(golden, case);
    let (pred, y) = (tensor("input").set_requires_grad(true), tensor("target"));
    let ours = match case["params"].get("reduction").map_or("mean", text) {
        "mean" => loss.mean(&pred, &y),
        "sum" => loss.sum(&pred, &y),
        "none" => loss.elements(&pred, &y),
        other => panic!("no reduction `{other}`"),
    };
    let ours = ours.unwrap();
    let theirs = tensor("expected");
    if theirs.dim() > 1 {
        report.exact(format!("{name} is flat"), &ours.dim(), &1);
        report.differs(&name, "a loss without reduction is always flat, also with `pos_weight`");
    }
    let shape = if theirs.dim() > 1 { vec![-1] } else { theirs.size() };
    report.tensor(&name, &ours, &theirs.view(shape.as_slice()), CLOSE);
    ours.sum(Kind::Float).backward();
    report.tensor(format!("{name} gradient"), &pred.grad(), &tensor("grad_of_sum"), CLOSE);

    // The losses that `get_preds` returns: one per item, with the mean loss as their mean.
    let pred = pred.detach();
    let each = loss.each(&pred, &y).unwrap();
    report.exact(format!("{name} each"), &each.size(), &vec![pred.size()[0]]);
    let all = loss.elements(&pred, &y).unwrap().mean(Kind::Float);
    report.tensor(format!("{name} mean of each"), &each.mean(Kind::Float), &all, CLOSE);

    activation(golden, case, &*loss, &name, report);
    // An exported model decodes in the same way.
    let built = loss.spec().map(|spec| spec.build());
    report.holds(format!("{name} as data"), built.is_some_and(|b| b.spec() == loss.spec()));
}

fn activation(golden: &Golden, case: &Value, loss: &dyn Loss, name: &str, report: &mut Report) {
    let key = text(&case["key"]);
    let tensor = |what: &str| golden.tensor(&format!("{key}.{what}"));
    if !golden.has(&format!("{key}.activation")) {
        return;
    }
    let pred = tensor("input");
    let activated = loss.activation(&pred).unwrap();
    let decoded = loss.decode(&activated).unwrap();
    let axis = case["params"].get("axis").map_or(-1, |a| number(a) as i64);
    if text(&case["loss"]).starts_with("LabelSmoothing") && axis != -1 {
        // fastai's softmax and argmax use the last dimension, regardless of `axis`.
        let wrong = pred.softmax(-1, Kind::Float);
        report.tensor(format!("{name} theirs"), &wrong, &tensor("activation"), CLOSE);
        let right = pred.softmax(axis, Kind::Float);
        report.tensor(format!("{name} activation"), &activated, &right, CLOSE);
        report.exact(format!("{name} decoded"), &ints(&decoded), &ints(&pred.argmax(axis, false)));
        report.differs(name, "activation and decoding run along `axis`, as the loss does");
        return;
    }
    report.tensor(format!("{name} activation"), &activated, &tensor("activation"), CLOSE);
    let theirs = tensor("decodes_of_activation");
    report.exact(format!("{name} decoded shape"), &decoded.size(), &theirs.size());
    report.close(format!("{name} decoded"), &flat(&decoded), &flat(&theirs), CLOSE);
}

/// Returns the example with two classes.
fn textbook(golden: &Golden, report: &mut Report) {
    report.case();
    let tensor = |what: &str| golden.tensor(&format!("toy.{what}"));
    let (acts, y) = (tensor("acts"), tensor("target"));
    tch::manual_seed(42);
    let drawn = Tensor::randn([6, 2], (Kind::Float, tch::Device::Cpu)) * 2;
    report.tensor("toy acts from their seed", &drawn, &acts, Tol { rtol: 1e-6, atol: 1e-6 });
    let loss = CrossEntropy::new();
    report.tensor("toy softmax", &loss.activation(&acts).unwrap(), &tensor("softmax"), CLOSE);
    report.tensor(
        "toy sigmoid",
        &BceWithLogits::new().activation(&acts).unwrap(),
        &tensor("sigmoid"),
        CLOSE,
    );
    report.tensor("toy each", &loss.each(&acts, &y).unwrap(), &tensor("loss_none"), CLOSE);
    report.tensor("toy nll", &loss.each(&acts, &y).unwrap(), &tensor("nll_of_log_softmax"), CLOSE);
    report.tensor("toy mean", &loss.mean(&acts, &y).unwrap(), &tensor("loss"), CLOSE);
    let told = number(&golden.json["toy"]["loss"]);
    report.close("toy loss", &flat(&loss.mean(&acts, &y).unwrap()), &[told], CLOSE);
    let picked = loss.activation(&acts).unwrap().gather(1, &y.unsqueeze(1), false).view([-1]);
    report.tensor("toy picked", &picked, &tensor("picked_probability"), CLOSE);
}
