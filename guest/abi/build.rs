//! Tells the build script of the guest image where the source of this crate is.

fn main() {
    println!("cargo::rerun-if-changed=src/lib.rs");
    let manifest = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts");
    println!("cargo::metadata=source={manifest}/src/lib.rs");
}
