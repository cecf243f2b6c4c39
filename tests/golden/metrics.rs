//! Metrics over an epoch of several batches.
use crate::frame::{Golden, Report, Tol, flat, number, numbers};
use finetune::{
    loss::{CrossEntropy, Loss},
    metric::{self, Average, KappaWeights, Metric, MultiClass},
};
use serde_json::Value;
use tch::{Kind, Tensor};

const CLOSE: Tol = Tol { rtol: 1e-5, atol: 1e-6 };

pub(crate) fn check(golden: &Golden, report: &mut Report) {
    for case in golden.cases("cases") {
        report.case();
        one(golden, case, report);
    }
    on_one_batch(golden, report);
    on_nothing(golden, report);
    smooth(golden, report);
}

fn text(v: &Value) -> &str {
    v.as_str().unwrap_or_else(|| panic!("{v} is not a string"))
}

/// Creates the metric for fastai's name and arguments.
pub(crate) fn named(name: &str, params: &Value) -> Box<dyn Metric> {
    let given = |key: &str| params.get(key).and_then(Value::as_f64);
    let flag = |key: &str| params.get(key).and_then(Value::as_bool);
    let average = params.get("average").map(|v| match text(v) {
        "binary" => Average::Binary,
        "macro" => Average::Macro,
        "micro" => Average::Micro,
        "weighted" => Average::Weighted,
        "samples" => Average::Samples,
        other => panic!("no average `{other}`"),
    });
    let over = average.unwrap_or(Average::Macro);
    let beta = given("beta").unwrap_or(1.0);
    let thresh = given("thresh").unwrap_or(0.5);
    let sigmoid = flag("sigmoid").unwrap_or(true);
    let class = |score: metric::ClassScore| -> Box<dyn Metric> {
        let score = score.average(average.unwrap_or(Average::Binary));
        Box::new(score.pos_label(given("pos_label").unwrap_or(1.0) as usize))
    };
    let multi = |score: metric::MultiScore| -> Box<dyn Metric> {
        Box::new(score.average(over).thresh(thresh).sigmoid(sigmoid))
    };
    match name {
        "accuracy" => Box::new(metric::accuracy_along(given("axis").unwrap_or(-1.0) as i64)),
        "error_rate" => Box::new(metric::error_rate()),
        "top_k_accuracy" => Box::new(metric::top_k_accuracy(given("k").unwrap_or(5.0) as i64)),
        "foreground_acc" => Box::new(metric::foreground_acc(
            params.get("bkg_idx").and_then(Value::as_i64).unwrap_or(0),
        )),
        "accuracy_multi" => Box::new(metric::accuracy_multi(thresh, sigmoid)),
        "F1Score" => class(metric::f1_score()),
        "FBeta" => class(metric::fbeta_score(beta)),
        "Precision" => class(metric::precision_score()),
        "Recall" => class(metric::recall_score()),
        "Jaccard" => class(metric::jaccard_score()),
        "F1ScoreMulti" => multi(metric::f1_score_multi()),
        "FBetaMulti" => multi(metric::fbeta_score_multi(beta)),
        "PrecisionMulti" => multi(metric::precision_score_multi()),
        "RecallMulti" => multi(metric::recall_score_multi()),
        "JaccardMulti" => multi(metric::jaccard_score_multi()),
        "MatthewsCorrCoef" => Box::new(metric::matthews_corrcoef()),
        "MatthewsCorrCoefMulti" => Box::new(metric::matthews_corrcoef_multi()),
        "BalancedAccuracy" if flag("adjusted") == Some(true) => {
            Box::new(metric::balanced_accuracy_adjusted())
        }
        "BalancedAccuracy" => Box::new(metric::balanced_accuracy()),
        "HammingLoss" => Box::new(metric::hamming_loss()),
        "HammingLossMulti" => Box::new(metric::hamming_loss_multi(thresh, sigmoid)),
        "CohenKappa" => {
            Box::new(metric::cohen_kappa(match params.get("weights").and_then(Value::as_str) {
                None => KappaWeights::Same,
                Some("linear") => KappaWeights::Linear,
                Some("quadratic") => KappaWeights::Quadratic,
                Some(other) => panic!("no weights `{other}`"),
            }))
        }
        "BrierScore" => Box::new(metric::brier_score()),
        "RocAuc" => {
            let one_vs_one = params.get("multi_class").is_some_and(|v| v == "ovo");
            let how = if one_vs_one { MultiClass::OneVsOne } else { MultiClass::OneVsRest };
            Box::new(metric::roc_auc(over, how))
        }
        "RocAucBinary" => Box::new(metric::roc_auc_binary(given("max_fpr"))),
        "RocAucMulti" => Box::new(metric::roc_auc_multi(over)),
        "APScoreBinary" => Box::new(metric::ap_score_binary()),
        "APScoreMulti" => Box::new(metric::ap_score_multi(over)),
        "Perplexity" => Box::new(metric::perplexity()),
        "AvgLoss" => Box::new(metric::avg_loss()),
        "mse" => Box::new(metric::mse()),
        "mae" => Box::new(metric::mae()),
        "msle" => Box::new(metric::msle()),
        "rmse" => Box::new(metric::rmse()),
        "exp_rmspe" => Box::new(metric::exp_rmspe()),
        "R2Score" => Box::new(metric::r2_score()),
        "ExplainedVariance" => Box::new(metric::explained_variance()),
        "PearsonCorrCoef" => Box::new(metric::pearson_corrcoef()),
        "SpearmanCorrCoef" => Box::new(metric::spearman_corrcoef()),
        "Dice" => Box::new(metric::dice()),
        "DiceMulti" => Box::new(metric::dice_multi()),
        "JaccardCoeff" => Box::new(metric::jaccard_coeff()),
        "JaccardCoeffMulti" => Box::new(metric::jaccard_coeff_multi()),
        other => panic!("no metric for `{other}`"),
    }
}

/// Returns the batches of a kind of data: predictions and targets.
pub(crate) fn batches(golden: &Golden, data: &str) -> Vec<(Tensor, Tensor)> {
    let name = |i: usize, what: &str| format!("{data}.batch{i}.{what}");
    (0..)
        .take_while(|&i| golden.has(&name(i, "pred")))
        .map(|i| (golden.tensor(&name(i, "pred")), golden.tensor(&name(i, "target"))))
        .collect()
}

/// Returns the value over all batches, or the error.
fn value(metric: &mut dyn Metric, batches: &[(Tensor, Tensor)]) -> Result<Option<f64>, String> {
    // Updates before a reset must not count.
    if let Some((pred, y)) = batches.first() {
        let _ = metric.update(pred, y);
    }
    metric.reset();
    for (pred, y) in batches {
        metric.update(pred, y).map_err(|e| e.to_string())?;
        if y.kind() == Kind::Int64 && y.dim() == 1 {
            let loss = CrossEntropy::new().mean(pred, y).map_err(|e| e.to_string())?;
            metric.update_loss(&loss, y.size()[0]).map_err(|e| e.to_string())?;
        }
    }
    metric.value().map_err(|e| e.to_string())
}

fn one(golden: &Golden, case: &Value, report: &mut Report) {
    let (data, name) = (text(&case["data"]), text(&case["metric"]));
    let mut metric = named(name, &case["params"]);
    let what = format!("{name}{} on {data}", case["params"]);
    report.exact(format!("{what} name"), metric.name(), text(&case["registered_name"]));
    let batches = batches(golden, data);
    let ours = value(&mut *metric, &batches);
    let theirs = case.get("value").map(number);
    let pixels = batches[0].0.size().get(1).copied().unwrap_or(0);
    match (name, ours, theirs) {
        ("BrierScore", Ok(Some(ours)), Some(theirs)) => {
            let wrong = mean_of(&batches, |p, y| p.argmax(-1, false).ne_tensor(y));
            report.close(format!("{what}: theirs is the error rate"), &[theirs], &[wrong], CLOSE);
            let square = mean_of(&batches, |p, y| {
                (p.softmax(-1, Kind::Float).select(-1, 1) - y.to_kind(Kind::Float)).square()
            });
            report.close(&what, &[ours], &[square], CLOSE);
            report
                .differs(what, "of the probability, not of the predicted class as if it were one");
        }
        ("Dice" | "JaccardCoeff", Ok(Some(ours)), Some(theirs)) if pixels > 2 => {
            let sum = |of: &dyn Fn(&Tensor, &Tensor) -> Tensor| -> f64 {
                let one = |(p, y): &(Tensor, Tensor)| of(&p.argmax(1, false), y);
                let of_batch = |b| f64::try_from(one(b).sum(Kind::Double)).unwrap();
                batches.iter().map(of_batch).sum()
            };
            let score = |both: f64, sizes: f64| match name {
                "Dice" => 2.0 * both / sizes,
                _ => both / (sizes - both),
            };
            let products = score(sum(&|p, y| p * y), sum(&|p, y| p + y));
            report.close(format!("{what}: theirs of products"), &[theirs], &[products], CLOSE);
            let both = sum(&|p, y| p.gt(0).logical_and(&y.gt(0)));
            let sizes = sum(&|p, _| p.gt(0)) + sum(&|_, y| y.gt(0));
            report.close(&what, &[ours], &[score(both, sizes)], CLOSE);
            report.differs(
                what,
                "the foreground is every class but the first; numbers of classes \
                                  are not multiplied",
            );
        }
        ("MatthewsCorrCoefMulti", Ok(Some(ours)), None) => {
            report.close(&what, &[ours], &[phi(&batches)], CLOSE);
            report.differs(what, "over all decisions, where fastai's always fails");
        }
        (_, Ok(Some(ours)), Some(theirs)) => report.close(what, &[ours], &[theirs], CLOSE),
        (_, Err(_), None) if case.get("raises").is_some() => {}
        (_, ours, theirs) => report.fail(format!("{what}: {ours:?} instead of {theirs:?}")),
    }
}

fn mean_of(batches: &[(Tensor, Tensor)], f: impl Fn(&Tensor, &Tensor) -> Tensor) -> f64 {
    let each = batches.iter().flat_map(|(p, y)| flat(&f(p, y))).collect::<Vec<_>>();
    each.iter().sum::<f64>() / each.len() as f64
}

/// Returns the correlation of decisions and targets, from Pearson's formula.
fn phi(batches: &[(Tensor, Tensor)]) -> f64 {
    let decided = |p: &Tensor| p.sigmoid().ge(0.5).to_kind(Kind::Double);
    let a = mean_of(batches, |p, _| decided(p));
    let b = mean_of(batches, |_, y| y.to_kind(Kind::Double));
    let both = mean_of(batches, |p, y| decided(p) * y.to_kind(Kind::Double));
    (both - a * b) / (a * (1.0 - a) * b * (1.0 - b)).sqrt()
}

fn on_one_batch(golden: &Golden, report: &mut Report) {
    report.case();
    let theirs = &golden.json["direct_on_multiclass_batch0"];
    let batch = &batches(golden, "multiclass")[..1];
    let k = serde_json::json!({ "k": 3 });
    for (key, name, params) in [
        ("accuracy", "accuracy", &Value::Null),
        ("error_rate", "error_rate", &Value::Null),
        ("top_k_accuracy_3", "top_k_accuracy", &k),
    ] {
        let ours = value(&mut *named(name, params), batch).unwrap().unwrap();
        report.close(format!("{key} of one batch"), &[ours], &[number(&theirs[key])], CLOSE);
    }
}

/// Checks that there is no value without batches.
fn on_nothing(golden: &Golden, report: &mut Report) {
    for (name, theirs) in golden.json["empty"].as_object().unwrap() {
        report.case();
        let ours = value(&mut *named(name, &Value::Null), &[]);
        report.holds(format!("{name} of nothing is {theirs}"), theirs.is_null());
        report.exact(format!("{name} of nothing"), &ours, &Ok(None));
    }
}

fn smooth(golden: &Golden, report: &mut Report) {
    report.case();
    let given = &golden.json["avg_smooth_loss"];
    let mut metric = metric::avg_smooth_loss(number(&given["beta"]));
    let ours: Vec<f64> = numbers(&given["losses"])
        .iter()
        .map(|loss| {
            metric.update_loss(&Tensor::from(*loss as f32), 1).unwrap();
            metric.value().unwrap().unwrap()
        })
        .collect();
    report.close("avg_smooth_loss", &ours, &numbers(&given["values"]), CLOSE);
}
