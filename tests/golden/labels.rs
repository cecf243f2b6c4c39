//! Labellers, vocabularies and target blocks for given names and labels, and the files that are found.
use crate::frame::{Golden, Report};
use finetune::{
    Error,
    data::{
        CategoryBlock, EncodedMultiCategoryBlock, ImageFiles, Labeller, MultiCategoryBlock,
        RegexLabeller, RegressionBlock, Sort, TargetBlock, parent_label,
    },
    sample::{Target, Task},
};
use serde_json::Value;
use std::fs;

pub(crate) fn check(golden: &Golden, report: &mut Report) {
    regex(golden, report);
    folders(golden, report);
    vocabularies(golden, report);
    categories(golden, report);
    several(golden, report);
    numbers(golden, report);
    files(golden, report);
}

fn text(v: &Value) -> &str {
    v.as_str().unwrap_or_else(|| panic!("{v} is not a string"))
}

/// Returns a label as Python prints it.
fn label(v: &Value) -> String {
    match v {
        Value::String(s) => s.clone(),
        Value::Bool(b) => if *b { "True" } else { "False" }.to_owned(),
        v => v.to_string(),
    }
}

fn list<T>(v: &Value, each: impl Fn(&Value) -> T) -> Vec<T> {
    v.as_array().unwrap_or_else(|| panic!("{v} is not a list")).iter().map(each).collect()
}

fn raises(v: &Value) -> bool {
    v["raises"].is_string()
}

fn is_label_error<T>(r: &finetune::Result<T>) -> bool {
    matches!(r, Err(Error::Label { .. }))
}

fn regex(golden: &Golden, report: &mut Report) {
    let names = &golden.json["regex_name"];
    for case in names["cases"].as_array().unwrap() {
        one_regex(text(&names["pattern"]), false, text(&case["name"]), case, report);
    }
    for case in golden.cases("regex_str") {
        let (pattern, from_start) = (text(&case["pattern"]), case["match"].as_bool().unwrap());
        one_regex(pattern, from_start, text(&case["item"]), case, report);
    }
}

fn one_regex(pattern: &str, from_start: bool, item: &str, case: &Value, report: &mut Report) {
    report.case();
    let what = format!("`{pattern}` on {item:?}");
    let labeller = match RegexLabeller::new(pattern) {
        Ok(labeller) => labeller.from_start(from_start),
        Err(e) => {
            // A pattern without a group returns nothing; fastai notices this at the first label.
            report.exact(&what, "IndexError", case["raises"].as_str().unwrap_or_default());
            report.holds(format!("{what}: {e}"), matches!(e, Error::Config { .. }));
            return;
        }
    };
    let ours = labeller.label(item);
    if case["label"].is_null() && !raises(case) {
        report.holds(format!("{what} is rejected"), is_label_error(&ours));
        report
            .differs(what, "a group that does not participate in the match is an error, not None");
        return;
    }
    match (ours, case["label"].as_str()) {
        (Ok(ours), Some(theirs)) => report.exact(what, &*ours, theirs),
        (Err(Error::Label { why, .. }), None) => {
            report.holds(format!("{what} names pattern and text"), why.contains(pattern));
        }
        // Python's `$` also matches before a final line break.
        (Err(_), Some(theirs)) if pattern.ends_with('$') && item.ends_with('\n') => {
            let without = labeller.label(&item[..item.len() - 1]);
            report.exact(&what, &without.ok().as_deref(), &Some(theirs));
            report.differs(what, "`$` is the very end, not before a last line break");
        }
        (ours, theirs) => report.fail(format!("{what}: {ours:?} instead of {theirs:?}")),
    }
}

fn folders(golden: &Golden, report: &mut Report) {
    for case in golden.cases("parent_label") {
        report.case();
        let (item, theirs) = (text(&case["item"]), text(&case["label"]));
        let ours = parent_label(item);
        if theirs.is_empty() {
            report.holds(format!("parent_label({item}) is rejected"), is_label_error(&ours));
            report.differs(format!("parent_label({item})"), "no folder is an error, not ''");
        } else {
            report.exact(format!("parent_label({item})"), &ours.ok().as_deref(), &Some(theirs));
        }
    }
}

fn vocab(block: &impl TargetBlock) -> Vec<String> {
    block.task().vocab().to_vec()
}

fn vocabularies(golden: &Golden, report: &mut Report) {
    for case in golden.cases("category_map") {
        report.case();
        let name = format!("category_map {}", text(&case["name"]));
        let option = |key: &str| case["kwargs"][key].as_bool();
        let col = case["col"].as_array().unwrap();
        // Values that pandas treats as missing are not labels: `get_y` returns an error for them.
        let series = text(&case["name"]).contains("nan");
        let missing = |v: &&Value| v.is_null() || (series && v.as_str() == Some("NaN"));
        let labels: Vec<_> = col.iter().filter(|v| !missing(v)).map(label).collect();
        let sort = match &col[0] {
            _ if option("sort") == Some(false) => Sort::Given,
            Value::Number(_) => Sort::Numbers,
            _ => Sort::CodePoints,
        };
        let mut block = CategoryBlock::new()
            .sort(sort)
            .add_na(option("add_na").unwrap_or(false))
            .strict(option("strict").unwrap_or(false));
        if !case["categories"].is_null() {
            // The categories of a pandas Categorical, in its order.
            block = block.vocab(list(&case["categories"], label)).sort(Sort::Given);
        }
        if let Err(e) = block.setup(&mut labels.iter()) {
            report.fail(format!("{name}: {e}"));
            continue;
        }
        report.exact(&name, &vocab(&block), &list(&case["items"], label));
        for (label, position) in case["o2i"].as_object().unwrap() {
            let theirs = Target::Category(position.as_u64().unwrap() as usize);
            report.exact(format!("{name} {label}"), &block.encode(label).ok(), &Some(theirs));
        }
    }
}

fn categories(golden: &Golden, report: &mut Report) {
    let cases = golden.cases("categorize");
    let find = |name: &str| cases.iter().find(|c| text(&c["name"]) == name);
    for case in cases {
        report.case();
        let name = text(&case["name"]);
        // The items to which a vocabulary was fitted are not in the file, so the vocabulary replaces
        // them. A given vocabulary is in the file.
        let of_fit = find("fit_on_items").map(|c| list(&c["vocab"], label));
        let mut block = match (case["given"].as_array(), name) {
            (Some(_), _) => {
                let block = CategoryBlock::new().vocab(list(&case["given"], label));
                if name.ends_with("False") { block.sort(Sort::Given) } else { block }
            }
            (None, "add_na") => CategoryBlock::new().add_na(true),
            (None, _) => CategoryBlock::new(),
        };
        let fit = match case["vocab"].as_array() {
            Some(_) => list(&case["vocab"], label),
            None => of_fit.unwrap(),
        };
        block.setup(&mut fit.iter().rev()).unwrap();
        if raises(case) {
            let ours = block.encode(&label(&case["item"]));
            report.holds(format!("categorize {name} is rejected"), is_label_error(&ours));
            continue;
        }
        report.exact(format!("categorize {name} vocab"), &vocab(&block), &fit);
        report.exact("c", &(block.task().n_out() as u64), &case["c"].as_u64().unwrap());
        let key = if case["items"].is_null() { "given" } else { "items" };
        let targets: Vec<_> =
            list(&case[key], label).iter().map(|l| block.encode(l).unwrap()).collect();
        let theirs = list(&case["encoded"], |v| Target::Category(v.as_u64().unwrap() as usize));
        report.exact(format!("categorize {name}"), &targets, &theirs);
        if case["decoded"].is_array() {
            let ours: Vec<_> = targets.iter().map(|t| block.decode(t).unwrap()).collect();
            report.exact(
                format!("categorize {name} decoded"),
                &ours,
                &list(&case["decoded"], label),
            );
        }
    }
    let case = &golden.json["datasets_single"];
    report.case();
    let labels = list(&case["labels"], label);
    let side = |k: usize| list(&case["splits"][k], |v| v.as_u64().unwrap() as usize);
    let mut block = CategoryBlock::new();
    block.setup(&mut side(0).iter().map(|&i| &labels[i])).unwrap();
    report.exact("datasets_single vocab", &vocab(&block), &list(&case["vocab"], label));
    let ours: Vec<_> = side(0).iter().map(|&i| block.encode(&labels[i]).unwrap()).collect();
    let theirs = list(&case["train"], |v| Target::Category(v.as_u64().unwrap() as usize));
    report.exact("datasets_single train", &ours, &theirs);
    let unknown = block.encode(&labels[side(1)[0]]);
    report.exact("datasets_single valid", &is_label_error(&unknown), &raises(&case["valid"]));
}

/// Returns the one-hot row of some categories.
fn one_hot(target: &Target, task: &Task) -> Vec<f64> {
    let Target::Categories(found) = target else { panic!("{target:?}") };
    (0..task.n_out()).map(|c| f64::from(u8::from(found.contains(&c)))).collect()
}

fn positions(v: &Value) -> Target {
    Target::Categories(list(v, |p| p.as_u64().unwrap() as usize))
}

fn several(golden: &Golden, report: &mut Report) {
    let labels = |v: &Value| list(v, label);
    for case in golden.cases("multi") {
        report.case();
        let add_na = case["add_na"].as_bool().unwrap();
        let name = format!("multi add_na={add_na}");
        let items = list(&case["items"], labels);
        let mut block = MultiCategoryBlock::new().add_na(add_na);
        block.setup(&mut items.iter()).unwrap();
        report.exact(format!("{name} vocab"), &vocab(&block), &labels(&case["vocab"]));
        let targets: Vec<_> = items.iter().map(|i| block.encode(i).unwrap()).collect();
        report.exact(&name, &targets, &list(&case["encoded"], positions));
        let decoded: Vec<_> = targets.iter().map(|t| block.decode(t).unwrap()).collect();
        report.exact(format!("{name} decoded"), &decoded, &list(&case["decoded"], labels));
        let hot: Vec<_> = targets.iter().map(|t| one_hot(t, &block.task())).collect();
        let theirs = list(&case["one_hot"], |row| list(row, |v| v.as_f64().unwrap()));
        report.exact(format!("{name} one-hot"), &hot, &theirs);
        let unknown = block.encode(&["nope".to_owned()].to_vec());
        report.exact(
            format!("{name} unknown"),
            &is_label_error(&unknown),
            &raises(&case["unknown"]),
        );
    }

    let case = &golden.json["multi_given_vocab"];
    report.case();
    let given = labels(&case["given"]);
    let mut block = MultiCategoryBlock::new().vocab(given.clone());
    block.setup(&mut std::iter::empty()).unwrap();
    report.exact("multi_given_vocab", &vocab(&block), &labels(&case["vocab"]));
    for (key, label_key) in [("encoded", None), ("repeated", Some("repeated_one_hot"))] {
        let theirs = positions(&case[key]);
        let names = block.decode(&theirs).unwrap();
        let ours = block.encode(&names).unwrap();
        report.exact(format!("multi_given_vocab {key}"), &ours, &theirs);
        if let Some(hot) = label_key {
            let theirs = list(&case[hot], |v| v.as_f64().unwrap());
            report.exact("multi_given_vocab one-hot", &one_hot(&ours, &block.task()), &theirs);
        }
    }

    let case = &golden.json["encoded_multi"];
    report.case();
    let names = labels(&case["vocab"]);
    let mut block = EncodedMultiCategoryBlock::new(names.clone());
    block.setup(&mut std::iter::empty()).unwrap();
    let item = list(&case["item"], |v| v.as_f64().unwrap() != 0.0);
    let target = block.encode(&item).unwrap();
    let theirs = list(&case["encoded"], |v| v.as_f64().unwrap());
    report.exact("encoded_multi", &one_hot(&target, &block.task()), &theirs);
    let on = block.decode(&target).unwrap().into_iter().zip(names);
    let on: Vec<_> = on.filter_map(|(yes, name)| yes.then_some(name)).collect();
    report.exact("encoded_multi decoded", &on, &labels(&case["decoded"]));
    report.exact("c", &(block.task().n_out() as u64), &case["c"].as_u64().unwrap());

    let case = &golden.json["datasets_multi"];
    report.case();
    // Its items are those of the first `multi` case.
    let items = list(&golden.cases("multi")[0]["items"], labels);
    let side = |k: usize| list(&case["splits"][k], |v| v.as_u64().unwrap() as usize);
    let mut block = MultiCategoryBlock::new();
    block.setup(&mut side(0).iter().map(|&i| &items[i])).unwrap();
    report.exact("datasets_multi vocab", &vocab(&block), &labels(&case["vocab"]));
    let hot = |&i: &usize| one_hot(&block.encode(&items[i]).unwrap(), &block.task());
    let ours: Vec<_> = side(0).iter().map(hot).collect();
    let theirs = list(&case["train"], |row| list(row, |v| v.as_f64().unwrap()));
    report.exact("datasets_multi train", &ours, &theirs);
    let valid = block.encode(&items[side(1)[0]]);
    report.exact("datasets_multi valid", &is_label_error(&valid), &raises(&case["valid"]));
}

fn numbers(golden: &Golden, report: &mut Report) {
    let case = &golden.json["regression"];
    report.case();
    let c = |key: &str| case[key].as_u64().unwrap() as usize;
    report.exact("one number", &RegressionBlock::one().task().n_out(), &c("scalar_c"));
    report.exact("two numbers", &RegressionBlock::new(2).task().n_out(), &c("pair_c"));
    let value = case["encoded"].as_f64().unwrap() as f32;
    let ours = RegressionBlock::one().encode(&value).ok();
    report.exact("a number", &ours, &Some(Target::Values(vec![value])));
}

fn files(golden: &Golden, report: &mut Report) {
    let folder = tempfile::tempdir().unwrap();
    let case = &golden.json["get_files"];
    for file in list(&case["tree"], label) {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }
    for case in case["cases"].as_array().unwrap() {
        report.case();
        let name = format!("{} {}", text(&case["fn"]), text(&case["name"]));
        let options = &case["kwargs"];
        let texts = |v: &Value| v.as_array().map_or_else(|| vec![label(v)], |_| list(v, label));
        let mut files = ImageFiles::new();
        if text(&case["fn"]) == "get_files" {
            files = files.extensions::<String>([]);
        }
        if !options["extensions"].is_null() {
            files = files.extensions(texts(&options["extensions"]));
        }
        if !options["folders"].is_null() {
            files = files.folders(texts(&options["folders"]));
        }
        files = files.recurse(options["recurse"].as_bool().unwrap_or(true));
        let theirs = list(&case["files"], label);
        let found = files.list(folder.path());
        if theirs.is_empty() {
            let none = matches!(found, Err(Error::Config { option: "get_items", .. }));
            report.holds(format!("{name} is rejected"), none);
            report.differs(name, "no file is an error, not an empty list");
            continue;
        }
        let found = found.unwrap_or_default();
        report.holds(format!("{name} sorted"), found.is_sorted());
        let below = |f: &std::path::PathBuf| {
            f.strip_prefix(folder.path()).unwrap().to_string_lossy().into_owned()
        };
        let mut ours: Vec<_> = found.iter().map(below).collect();
        ours.sort();
        report.exact(name, &ours, &theirs);
    }
    report.differs("get_files", "files are sorted; fastai's order is that of the file system");
    let extensions = list(&golden.json["image_extensions_here"], label);
    let lower: Vec<_> = extensions.iter().map(|e| e.to_lowercase()).collect();
    report.case();
    let common = ["jpg", "jpeg", "png", "gif", "bmp", "webp", "tif", "tiff"];
    let both =
        |e: &&str| finetune::data::IMAGE_EXTENSIONS.contains(e) && lower.contains(&format!(".{e}"));
    report.holds("the usual extensions are images to both", common.iter().all(both));
    report.differs("image_extensions", "a fixed list; fastai's is the machine's MIME table");
}
