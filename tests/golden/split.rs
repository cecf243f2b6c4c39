//! The items of each split in order, for every splitter.
use crate::frame::{Golden, Report, flat, ints};
use finetune::{
    Error, Result,
    data::{
        ColSplitter, Column, EndSplitter, FileSplitter, FuncSplitter, GrandparentSplitter,
        IndexSplitter, MaskSplitter, RandomSplitter, RandomSubsetSplitter, Row, Splits, Splitter,
        TorchRng,
    },
};
use serde_json::Value;
use std::{fs, path::PathBuf};
use tch::{Device, Kind, Tensor};

pub(crate) fn check(golden: &Golden, report: &mut Report) {
    random(golden, report);
    unseeded(golden, report);
    subset(golden, report);
    grandparent(golden, report);
    index(golden, report);
    end(golden, report);
    by_item(golden, report);
    file(golden, report);
    column(golden, report);
}

fn count(v: &Value) -> usize {
    v.as_u64().unwrap_or_else(|| panic!("{v} is not a count")) as usize
}

fn counts(v: &Value) -> Vec<usize> {
    v.as_array().unwrap_or_else(|| panic!("{v} is not a list")).iter().map(count).collect()
}

/// Returns a cell or a name: strings as they are, other values as Python prints them.
fn text(v: &Value) -> String {
    match v {
        Value::String(s) => s.clone(),
        Value::Bool(b) => if *b { "True" } else { "False" }.to_owned(),
        v => v.to_string(),
    }
}

/// Returns one string or a list of strings.
fn texts(v: &Value) -> Vec<String> {
    v.as_array().map_or_else(|| vec![text(v)], |list| list.iter().map(text).collect())
}

/// Returns both lists of a case from the file.
fn lists(case: &Value) -> Splits {
    Splits { train: counts(&case["train"]), valid: counts(&case["valid"]) }
}

fn tensors(golden: &Golden, key: &str) -> Splits {
    let side = |name: &str| {
        ints(&golden.tensor(&format!("{key}.{name}"))).iter().map(|&i| i as usize).collect()
    };
    Splits { train: side("train"), valid: side("valid") }
}

/// Counts the case and compares both lists.
fn same(report: &mut Report, what: impl std::fmt::Display, ours: Result<Splits>, theirs: &Splits) {
    report.case();
    match ours {
        Ok(ours) => report.exact(what, &ours, theirs),
        Err(e) => report.fail(format!("{what}: {e}")),
    }
}

fn random(golden: &Golden, report: &mut Report) {
    let mut reseeds = true;
    for case in golden.cases("random") {
        let (key, n) = (text(&case["key"]), count(&case["n"]));
        let splitter = RandomSplitter::new(case["valid_pct"].as_f64().unwrap())
            .seed(case["seed"].as_u64().unwrap());
        tch::manual_seed(999);
        let ours = splitter.split(&vec![(); n]);
        let after = Tensor::rand([4], (Kind::Float, Device::Cpu));
        same(report, &key, ours, &tensors(golden, &key));
        tch::manual_seed(999);
        let untouched = Tensor::rand([4], (Kind::Float, Device::Cpu));
        report.holds(format!("{key}: libtorch's generator is untouched"), after == untouched);
        reseeds &= flat(&golden.tensor(&format!("{key}.global_rand_after"))) != flat(&after);
    }
    report.holds("fastai's splitter re-seeds the generator of all", reseeds);
    report.differs("random", "libtorch's own generator is not re-seeded by a split");
}

fn unseeded(golden: &Golden, report: &mut Report) {
    let case = &golden.json["unseeded"];
    let generator = TorchRng::new(case["global_manual_seed"].as_u64().unwrap());
    let splitter = RandomSplitter::new(case["valid_pct"].as_f64().unwrap()).generator(generator);
    for which in ["first", "second"] {
        let key = format!("unseeded.{which}");
        let ours = splitter.split(&vec![(); count(&case["n"])]);
        same(report, &key, ours, &tensors(golden, &key));
    }
}

fn subset(golden: &Golden, report: &mut Report) {
    for case in golden.cases("subset") {
        let key = text(&case["key"]);
        let size = |name: &str| case[name].as_f64().unwrap();
        let splitter = RandomSubsetSplitter::new(size("train_sz"), size("valid_sz"))
            .seed(case["seed"].as_u64().unwrap());
        let ours = splitter.split(&vec![(); count(&case["n"])]);
        same(report, &key, ours, &tensors(golden, &key));
    }
}

fn grandparent(golden: &Golden, report: &mut Report) {
    let grandparent = &golden.json["grandparent"];
    let items: Vec<PathBuf> = texts(&grandparent["items"]).into_iter().map(Into::into).collect();
    for (i, case) in grandparent["cases"].as_array().unwrap().iter().enumerate() {
        let splitter = GrandparentSplitter::new()
            .train_name(texts(&case["train_name"]))
            .valid_name(texts(&case["valid_name"]));
        same(report, format!("grandparent{i}"), splitter.split(&items), &lists(case));
    }
}

fn index(golden: &Golden, report: &mut Report) {
    for (i, case) in golden.cases("index").iter().enumerate() {
        let (n, valid) = (count(&case["n"]), counts(&case["valid_idx"]));
        let far = valid.iter().any(|&v| v >= n);
        let ours = IndexSplitter::new(valid).split(&vec![(); n]);
        if !far {
            same(report, format!("index{i}"), ours, &lists(case));
            continue;
        }
        report.case();
        let names = |e: &Error| matches!(e, Error::Config { option: "IndexSplitter", .. });
        report.holds(format!("index{i} is rejected"), ours.as_ref().is_err_and(names));
        report.differs(format!("index{i}"), "a position beyond the items is an error at once");
    }
}

fn end(golden: &Golden, report: &mut Report) {
    for (i, case) in golden.cases("end").iter().enumerate() {
        let (n, pct) = (count(&case["n"]), case["valid_pct"].as_f64().unwrap());
        let last = case["valid_last"].as_bool().unwrap();
        let mut theirs = lists(case);
        if last && (pct * n as f64) as usize == 0 {
            let everything = Splits { train: vec![], valid: (0..n).collect() };
            report.exact(format!("end{i}: fastai's"), &theirs, &everything);
            std::mem::swap(&mut theirs.train, &mut theirs.valid);
            report.differs(format!("end{i}"), "a part that rounds to 0 is empty, not everything");
        }
        let ours = EndSplitter::new(pct).valid_last(last).split(&vec![(); n]);
        same(report, format!("end{i}"), ours, &theirs);
    }
    for (pct, theirs) in golden.json["end_bad_pct"].as_object().unwrap() {
        report.case();
        report.holds(format!("fastai rejects {pct}"), theirs["raises"].is_string());
        let ours = EndSplitter::new(pct.parse().unwrap()).split(&[(); 10]);
        report.holds(format!("EndSplitter::new({pct}) is rejected"), ours.is_err());
    }
}

fn by_item(golden: &Golden, report: &mut Report) {
    let case = &golden.json["mask"];
    let mask: Vec<bool> =
        case["mask"].as_array().unwrap().iter().map(|m| m.as_bool().unwrap()).collect();
    let ours = MaskSplitter::new(mask.clone()).split(&mask);
    same(report, "mask", ours, &lists(case));

    let case = &golden.json["func"];
    // The file describes the rule in words; it is the same in every file.
    report.exact("func's rule", &*text(&case["rule"]), "item % 3 == 0 -> valid");
    let ours =
        FuncSplitter::new(|item: &usize| item.is_multiple_of(3)).split(&counts(&case["items"]));
    same(report, "func", ours, &lists(case));
}

fn file(golden: &Golden, report: &mut Report) {
    let folder = tempfile::tempdir().unwrap();
    let list = folder.path().join("valid.txt");
    let items: Vec<PathBuf> =
        texts(&golden.json["file"]["items"]).into_iter().map(Into::into).collect();
    for (i, case) in golden.json["file"]["cases"].as_array().unwrap().iter().enumerate() {
        fs::write(&list, text(&case["content"])).unwrap();
        same(report, format!("file{i}"), FileSplitter::new(&list).split(&items), &lists(case));
    }
}

fn column(golden: &Golden, report: &mut Report) {
    let col = &golden.json["col"];
    let names = texts(&col["column_order"]);
    let columns: Vec<Vec<String>> = names.iter().map(|n| texts(&col["columns"][n])).collect();
    let n = columns[0].len();
    let rows = (0..n).map(|i| columns.iter().map(move |c| c[i].clone()));
    let rows = Row::table(names, rows).unwrap();
    for (i, case) in col["cases"].as_array().unwrap().iter().enumerate() {
        let column = match case["col"].as_u64() {
            Some(position) => Column::Position(position as usize),
            None => Column::Name(text(&case["col"])),
        };
        let mut splitter = ColSplitter::new(column);
        if !case["on"].is_null() {
            splitter = splitter.on(texts(&case["on"]));
        }
        same(report, format!("col{i}"), splitter.split(&rows), &lists(case));
    }
    report.case();
    // Here, the compiler rejects items that are not rows of a table.
    report.holds("fastai rejects a list", golden.json["col_not_df"]["raises"].is_string());
}
