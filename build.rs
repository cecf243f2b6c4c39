//! Compiles the native layer against the libtorch that torch-sys found, and sets the run-time search path of the
//! crate's own programs to that libtorch.

use std::{env, path::PathBuf};

fn main() {
    println!("cargo:rerun-if-changed=src/sys/shim.cpp");
    println!("cargo:rerun-if-changed=src/sys/memory.cpp");
    println!("cargo:rerun-if-changed=src/sys/trace.cpp");
    println!("cargo:rerun-if-changed=src/sys/recompute.cpp");
    println!("cargo:rerun-if-changed=src/sys/depthwise.cpp");
    println!("cargo:rerun-if-changed=src/sys/graph.cpp");
    println!("cargo:rerun-if-changed=src/sys/tree.h");
    println!("cargo:rerun-if-changed=src/sys/c10d.cpp");
    println!("cargo:rerun-if-changed=src/sys/stand_in");
    println!("cargo:rerun-if-changed=src/sys/message.h");
    if env::var_os("CARGO_FEATURE_DOC_ONLY").is_some() {
        return;
    }
    let lib =
        PathBuf::from(env::var_os("DEP_TCH_LIBTORCH_LIB").expect("torch-sys names its libtorch"));
    let root = lib.parent().expect("libtorch's lib folder has a parent");
    let mut build = cc::Build::new();
    // For `scripts/sanitize`.
    println!("cargo:rerun-if-env-changed=FINETUNE_CXXFLAGS");
    for flag in env::var("FINETUNE_CXXFLAGS").unwrap_or_default().split_whitespace() {
        build.flag(flag);
    }
    build
        .cpp(true)
        .pic(true)
        .warnings(false)
        .debug(false) // debug information of libtorch's templates takes longer to generate than the code
        .std("c++17")
        .include(root.join("include"))
        .include(root.join("include/torch/csrc/api/include"))
        .file("src/sys/shim.cpp")
        .file("src/sys/memory.cpp")
        .file("src/sys/trace.cpp")
        .file("src/sys/recompute.cpp")
        .file("src/sys/depthwise.cpp")
        .file("src/sys/graph.cpp")
        .include("src/sys/stand_in")
        .file("src/sys/c10d.cpp")
        .compile("finetune_shim");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    // Where the CUDA half is looked for on systems that do not list the libraries of a process.
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os != "linux") {
        println!("cargo:rustc-env=FINETUNE_LIBTORCH_LIB={}", lib.display());
    }
    // For a dependent's own build script, as DEP_FINETUNE_LIBTORCH_LIB.
    println!("cargo:libtorch_lib={}", lib.display());
}
