//! The modules of each crate form layers, and the files within a module form no import cycles.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};
use syn::{
    Item, UseTree, Visibility,
    visit::{self, Visit},
};

/// A crate of the workspace.
struct Member {
    /// The folder of its sources.
    src: &'static str,
    /// Its modules, from the lowest layer to the highest. A module imports only from layers below its
    /// own.
    layers: &'static [&'static [&'static str]],
    /// Intended cycles, each identified by one of its files.
    cycles: &'static [(&'static str, &'static str)],
}

const MEMBERS: &[Member] = &[
    Member {
        src: "src",
        layers: &[
            &["error"],
            &["sys", "disk"],
            &["seed", "image", "download", "distributed"],
            &["format"],
            &["sample"],
            &["transform"],
            &["data", "model", "loss", "metric"],
            &["optim", "onnx"],
            &["learner"],
            &["callback", "interpret", "doctor"],
            &["show"],
            &["prelude", "guide"],
        ],
        cycles: &[
            ("loss/spec", "a loss describes itself as a variant that holds it"),
            (
                "model/arch",
                "an architecture knows its published weights, and those the architecture",
            ),
        ],
    },
    Member {
        src: "crates/image/src",
        layers: &[
            &["caught", "error", "memory"],
            &["sys"],
            &["seed", "image"],
            &["source", "sample"],
            &["transform", "prediction"],
            &["preparation"],
            &["card"],
        ],
        cycles: &[("transform/spec", "a transform describes itself as a variant that holds it")],
    },
    Member {
        src: "crates/predict/src",
        layers: &[
            &["failure", "parts"],
            &["file", "input", "outputs"],
            &["network"],
            &["predictor"],
        ],
        cycles: &[],
    },
];

/// A module path below the crate root.
type Module = Vec<String>;

/// The imports of one file, and the names that it re-exports.
#[derive(Default)]
struct Imports {
    paths: Vec<(Module, bool)>,
    exports: BTreeMap<String, Module>,
}

/// The files of the crate by module, and their imports.
struct Crate(BTreeMap<Module, Imports>);

/// Collects paths that begin with `crate`, `super`, `self` or the name of a child module.
struct Collector<'a> {
    module: &'a Module,
    files: &'a BTreeSet<Module>,
    imports: Imports,
}

impl Collector<'_> {
    fn absolute(&self, path: &[String]) -> Option<Module> {
        let mut base = match path[0].as_str() {
            "crate" => vec![],
            "self" => self.module.clone(),
            "super" => self.module[..self.module.len().saturating_sub(1)].to_vec(),
            child => {
                let mut below = self.module.clone();
                below.push(child.to_owned());
                if !self.files.contains(&below) {
                    return None;
                }
                below
            }
        };
        base.extend(path[1..].iter().filter(|s| *s != "self").cloned());
        Some(base)
    }

    fn tree(&mut self, tree: &UseTree, prefix: &[String], public: bool) {
        let with = |name: &syn::Ident| [prefix, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(p) => self.tree(&p.tree, &with(&p.ident), public),
            UseTree::Name(n) => self.leaf(&with(&n.ident), &n.ident.to_string(), public),
            UseTree::Rename(r) => self.leaf(&with(&r.ident), &r.rename.to_string(), public),
            UseTree::Glob(_) => self.leaf(prefix, "*", public),
            UseTree::Group(g) => g.items.iter().for_each(|t| self.tree(t, prefix, public)),
        }
    }

    fn leaf(&mut self, path: &[String], name: &str, public: bool) {
        let Some(absolute) = self.absolute(path) else { return };
        if public {
            self.imports.exports.insert(name.to_owned(), absolute.clone());
        }
        self.imports.paths.push((absolute, public));
    }
}

impl<'ast> Visit<'ast> for Collector<'_> {
    fn visit_item_mod(&mut self, m: &'ast syn::ItemMod) {
        // Unit tests may import anything.
        if !m.attrs.iter().any(|a| a.path().is_ident("cfg")) || m.content.is_none() {
            visit::visit_item_mod(self, m);
        }
    }

    fn visit_item_use(&mut self, u: &'ast syn::ItemUse) {
        self.tree(&u.tree, &[], !matches!(u.vis, Visibility::Inherited));
    }

    fn visit_path(&mut self, p: &'ast syn::Path) {
        let names: Vec<String> = p.segments.iter().map(|s| s.ident.to_string()).collect();
        // A single `crate` or `super` belongs to `pub(crate)`.
        if names.len() > 1
            && matches!(names[0].as_str(), "crate" | "super")
            && let Some(absolute) = self.absolute(&names)
        {
            self.imports.paths.push((absolute, false));
        }
        visit::visit_path(self, p);
    }
}

impl Crate {
    fn read(src: &str) -> Self {
        let mut sources = BTreeMap::new();
        collect(Path::new(src), &vec![], &mut sources);
        let files: BTreeSet<Module> = sources.keys().cloned().collect();
        let read = sources.iter().map(|(module, text)| {
            let parsed = syn::parse_file(text).unwrap_or_else(|e| panic!("{module:?}: {e}"));
            let mut collector = Collector { module, files: &files, imports: Imports::default() };
            parsed.items.iter().for_each(|item: &Item| collector.visit_item(item));
            (module.clone(), collector.imports)
        });
        Self(read.collect())
    }

    /// Returns the file in which `path` is defined, following re-exports.
    fn file_of(&self, path: &[String], depth: usize) -> Module {
        let mut module: Module = vec![];
        for (i, segment) in path.iter().enumerate() {
            let below = [module.as_slice(), std::slice::from_ref(segment)].concat();
            if self.0.contains_key(&below) {
                module = below;
                continue;
            }
            return match self.0[&module].exports.get(segment) {
                Some(to) if depth < 16 => {
                    self.file_of(&[to.as_slice(), &path[i + 1..]].concat(), depth + 1)
                }
                _ => module,
            };
        }
        module
    }

    /// Returns the files that each file imports from its own top-level module. Re-exports of a module's
    /// own children do not count.
    fn edges(&self) -> BTreeMap<&Module, BTreeSet<Module>> {
        let edges = self.0.iter().map(|(from, imports)| {
            let to = imports.paths.iter().filter_map(|(path, public)| {
                let to = self.file_of(path, 0);
                let within = !to.is_empty() && to.first() == from.first() && to != *from;
                (within && !(*public && to.starts_with(from))).then_some(to)
            });
            (from, to.collect())
        });
        edges.collect()
    }
}

fn collect(folder: &Path, module: &Module, sources: &mut BTreeMap<Module, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let mut own = module.clone();
        if path.is_dir() {
            own.push(name);
            collect(&path, &own, sources);
        } else if path.extension().is_some_and(|e| e == "rs") {
            if name != "mod" && name != "lib" {
                own.push(name);
            }
            sources.insert(own, fs::read_to_string(&path).unwrap());
        }
    }
}

impl Member {
    fn layer(&self, module: &str) -> usize {
        let found = self.layers.iter().position(|f| f.contains(&module));
        found.unwrap_or_else(|| panic!("`{module}` of {} has no layer", self.src))
    }
}

#[test]
fn every_import_goes_down() {
    let mut broken = vec![];
    for member in MEMBERS {
        let all = Crate::read(member.src);
        for (from, imports) in all.0.iter().filter(|(from, _)| !from.is_empty()) {
            for (path, _) in &imports.paths {
                let to = &path[0];
                let known = all.0.contains_key(&vec![to.clone()]);
                if known && *to != from[0] && member.layer(to) >= member.layer(&from[0]) {
                    broken.push(format!("{}/{} imports `{to}`", member.src, from.join("/")));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn no_file_imports_itself_indirectly() {
    for member in MEMBERS {
        no_cycles(member);
    }
}

fn no_cycles(member: &Member) {
    let all = Crate::read(member.src);
    let edges = all.edges();
    let reaches = |from: &Module| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
        while let Some(at) = next.pop() {
            for to in &edges[at] {
                if seen.insert(to) {
                    next.push(to);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&Module, BTreeSet<&Module>> =
        edges.keys().map(|from| (*from, reaches(from))).collect();
    let cycle = |file: &Module| -> BTreeSet<String> {
        let around = reached[file].iter().filter(|other| reached[**other].contains(file));
        around.map(|m| m.join("/")).collect()
    };
    let found: BTreeSet<BTreeSet<String>> =
        edges.keys().map(|f| cycle(f)).filter(|c| !c.is_empty()).collect();
    let by_design = |c: &BTreeSet<String>| member.cycles.iter().any(|(file, _)| c.contains(*file));
    let knots: Vec<_> = found.iter().filter(|c| !by_design(c)).collect();
    assert!(knots.is_empty(), "cycles of imports: {knots:#?}");
    for (file, why) in member.cycles {
        assert!(found.iter().any(|c| c.contains(*file)), "no cycle at {file} any more: {why}");
    }
}
