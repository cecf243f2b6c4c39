//! `ClassificationInterpretation` of the same predictions as in fastai.
use crate::frame::{Golden, Report, Tol, flat, ints};
use finetune::{
    interpret::{ClassificationInterpretation, ItemLoss},
    learner::Predictions,
    sample::{Target, Task},
};
use ndarray::Array2;
use serde_json::Value;
use std::sync::Arc;
use tch::{Kind, Reduction, Tensor};

const LOSSES: Tol = Tol { rtol: 0.0, atol: 1e-6 };

pub(crate) fn check(golden: &Golden, report: &mut Report) {
    for case in golden.cases("cases") {
        report.case();
        one(golden, case, report);
    }
}

fn text(v: &Value) -> &str {
    v.as_str().unwrap_or_else(|| panic!("{v} is not a string"))
}

/// Computes predictions from the stored logits: softmax, the largest output, and the cross-entropy of
/// each item.
fn predictions(logits: &Tensor, targets: &Tensor, vocab: Vec<String>) -> Predictions {
    let preds = logits.softmax(-1, Kind::Float);
    let losses = logits.cross_entropy_loss(targets, None::<Tensor>, Reduction::None, -100, 0.0);
    let decoded = preds.argmax(-1, false);
    let category = |t: &Tensor| ints(t).iter().map(|c| Target::Category(*c as usize)).collect();
    let shape = (preds.size()[0] as usize, preds.size()[1] as usize);
    let floats = |t: &Tensor| flat(t).iter().map(|v| *v as f32).collect::<Vec<_>>();
    Predictions::new(
        // Items have other positions in their data set than among the predictions.
        (0..shape.0).map(|i| i + 100).collect(),
        Array2::from_shape_vec(shape, floats(&preds)).unwrap(),
        category(targets),
        category(&decoded),
        floats(&losses),
        Task::Category { vocab: Arc::from(vocab) },
    )
}

fn one(golden: &Golden, case: &Value, report: &mut Report) {
    let key = text(&case["key"]);
    let name = format!("{key} ({})", text(&case["name"]));
    let tensor = |what: &str| golden.tensor(&format!("{key}.{what}"));
    let vocab: Vec<String> =
        case["vocab"].as_array().unwrap().iter().map(|v| text(v).to_owned()).collect();
    let kept = predictions(&tensor("logits"), &tensor("targets"), vocab.clone());
    let interp = ClassificationInterpretation::from_predictions(kept).unwrap();

    // Compare the predictions first, since the other results depend on them.
    let kept = interp.predictions();
    let wide = |v: &[f32]| v.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
    let preds: Vec<_> = kept.preds.iter().map(|p| f64::from(*p)).collect();
    report.close(format!("{name} preds"), &preds, &flat(&tensor("preds")), LOSSES);
    report.close(format!("{name} losses"), &wide(&kept.losses), &flat(&tensor("losses")), LOSSES);
    let category = |t: &Target| match t {
        Target::Category(c) => *c as i64,
        other => panic!("{other:?}"),
    };
    let decoded: Vec<_> = kept.decoded.iter().map(category).collect();
    report.exact(format!("{name} decoded"), &decoded, &ints(&tensor("decoded")));

    let counts = interp.confusion_matrix();
    let ours: Vec<_> = counts.iter().map(|n| *n as i64).collect();
    report.exact(format!("{name} matrix"), &ours, &ints(&tensor("confusion_matrix")));
    let shares: Vec<_> = interp.confusion_matrix_normalized().iter().copied().collect();
    let theirs = flat(&tensor("confusion_matrix_row_normalized"));
    let exactly = Tol { rtol: 0.0, atol: 1e-15 };
    report.close(format!("{name} normalized"), &shares, &theirs, exactly);

    let text_of_report = interp.classification_report().to_string();
    // fastai prints it, which adds a line break.
    let theirs = text(&case["classification_report"]);
    report.exact(format!("{name} report"), &*format!("{text_of_report}\n"), theirs);

    confused(&name, case, &vocab, &interp, report);
    losses(golden, case, &interp, report);
}

fn confused(
    name: &str,
    case: &Value,
    vocab: &[String],
    interp: &ClassificationInterpretation,
    report: &mut Report,
) {
    for (least, list) in case["most_confused"].as_object().unwrap() {
        let least: usize = least.parse().unwrap();
        let row = |v: &Value| {
            (text(&v[0]).to_owned(), text(&v[1]).to_owned(), v[2].as_u64().unwrap() as usize)
        };
        let mut theirs: Vec<_> = list.as_array().unwrap().iter().map(row).collect();
        if least == 0 {
            // For pairs that occur at least 0 times, fastai also lists each category as confused with
            // itself 0 times, because it has cleared the diagonal. Ours omits these wrong entries.
            let itself = theirs.iter().filter(|(a, p, n)| a == p && *n == 0).count();
            report.exact(format!("{name} emptied diagonal"), &itself, &vocab.len());
            theirs.retain(|(a, p, _)| a != p);
            report.differs(format!("{name} most_confused(0)"), "the diagonal is not listed");
        }
        let ours = interp.most_confused(least);
        report.exact(format!("{name} most_confused({least})"), &ours, &theirs);
    }
}

fn losses(
    golden: &Golden,
    case: &Value,
    interp: &ClassificationInterpretation,
    report: &mut Report,
) {
    let key = text(&case["key"]);
    let tensor = |what: &str| golden.tensor(&format!("{key}.{what}"));
    let all = flat(&tensor("losses"));
    for side in ["largest", "smallest"] {
        for k in ["all", "1", "5"] {
            let what = format!("top_losses_{side}_{k}");
            let k = k.parse().unwrap_or(usize::MAX);
            let ours: Vec<ItemLoss> =
                if side == "largest" { interp.top_losses(k) } else { interp.bottom_losses(k) };
            let values: Vec<_> = ours.iter().map(|l| f64::from(l.loss)).collect();
            let theirs = flat(&tensor(&format!("{what}.values")));
            report.close(format!("{key} {what} values"), &values, &theirs, LOSSES);
            // fastai does not order equal losses; these positions are compared by their losses.
            let theirs = ints(&tensor(&format!("{what}.indices")));
            let once = |i: usize| all.iter().filter(|l| (**l - all[i]).abs() <= 1e-6).count() == 1;
            let same = ours.iter().zip(&theirs).all(|(a, b)| {
                a.index as i64 == *b
                    || !once(a.index) && (all[a.index] - all[*b as usize]).abs() <= 1e-6
            });
            report.holds(format!("{key} {what}: {ours:?} are the items {theirs:?}"), same);
            report
                .holds(format!("{key} {what} items"), ours.iter().all(|l| l.item == l.index + 100));
        }
    }
    let theirs: Vec<_> = case["top4_items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_u64().unwrap() as usize)
        .collect();
    let ours: Vec<_> = interp.top_losses(4).iter().map(|l| l.index).collect();
    let value = |i: &Vec<usize>| i.iter().map(|i| all[*i]).collect::<Vec<_>>();
    report.close(format!("{key} top4_items"), &value(&ours), &value(&theirs), LOSSES);

    let some = finetune::interpret::Interpretation::from_predictions(interp.predictions().clone());
    let some = some.unwrap().select(&[3, 0, 5]).unwrap();
    let preds: Vec<_> = some.preds.iter().map(|p| f64::from(*p)).collect();
    report.close(
        format!("{key} [3, 0, 5] preds"),
        &preds,
        &flat(&tensor("getitem_3_0_5.preds")),
        LOSSES,
    );
    let targets = ints(&tensor("getitem_3_0_5.targets"));
    let targets: Vec<_> = targets.iter().map(|c| Target::Category(*c as usize)).collect();
    report.exact(format!("{key} [3, 0, 5] targets"), &some.targets, &targets);
    let losses: Vec<_> = some.losses.iter().map(|l| f64::from(*l)).collect();
    report.close(
        format!("{key} [3, 0, 5] losses"),
        &losses,
        &flat(&tensor("getitem_3_0_5.losses")),
        LOSSES,
    );
}
