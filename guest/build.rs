//! Builds the guest image: the ABI crate as an rlib, then `guest/image/boot.rs` as a bare-metal ELF,
//! with the toolchain that builds the host. Flags of the host build are kept away from it.

use std::path::{Path, PathBuf};
use std::process::Command;

const HOST_FLAGS: [&str; 5] =
    ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_LINKER"];

fn main() {
    let guest = PathBuf::from(var("CARGO_MANIFEST_DIR"));
    // The `links` key of crossmod-abi, and what its build script prints, become this variable.
    let contract = PathBuf::from(var("DEP_CROSSMOD_ABI_SOURCE"));
    let out = PathBuf::from(var("OUT_DIR"));
    for path in ["image/boot.rs", "image/executor.s", "image/traps.s", "image/link.ld"] {
        println!("cargo::rerun-if-changed={}", guest.join(path).display());
    }
    println!("cargo::rerun-if-changed={}", contract.display());

    let abi = out.join("libcrossmod_abi.rlib");
    rustc(
        &["--crate-type=rlib", "--crate-name=crossmod_abi", "-Copt-level=1", "-Cpanic=abort"],
        &contract,
        &abi,
        &[],
    );
    let image = out.join("guest.elf");
    let script = format!("-Clink-arg=-T{}", guest.join("image/link.ld").display());
    let external = format!("--extern=crossmod_abi={}", abi.display());
    rustc(
        &[
            "--crate-type=bin",
            "--crate-name=crossmod_guest",
            "-Copt-level=1",
            "-Cpanic=abort",
            "-Cno-redzone=yes",
            "-Crelocation-model=static",
            "-Ccodegen-units=1",
            "-Cstrip=debuginfo",
            "-Clinker=rust-lld",
            "-Clinker-flavor=ld.lld",
            "-Clink-arg=--build-id=none",
        ],
        &guest.join("image/boot.rs"),
        &image,
        &[script, external],
    );
    println!("cargo::rustc-env=CROSSMOD_GUEST_ELF={}", image.display());
}

fn rustc(flags: &[&str], source: &Path, output: &Path, more: &[String]) {
    let mut command = Command::new(var("RUSTC"));
    for name in HOST_FLAGS {
        command.env_remove(name);
    }
    command.arg("--edition=2024").args(flags).args(more).arg("-o").arg(output).arg(source);
    let status = command.status().unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    assert!(status.success(), "the guest image does not build: {command:?}");
}

fn var(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name} for build scripts"))
}
