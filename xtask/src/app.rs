//! `cargo xtask app`: the web apps, each a folder that `bulla gateway serve` takes: the customer's, from the engine's WASM on (`--app`), and the
//! developer's console (`--console`).

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};

use crate::{need, shell};

/// The customer's app, and the developer's console: folders in `apps/`.
pub(crate) const CHAT: &str = "chat";
pub(crate) const CONSOLE: &str = "console";

/// The target that a browser runs.
const TARGET: &str = "wasm32-unknown-unknown";

/// Debian's packages with a compiler for that target, and the sources of its standard library.
const DEBIAN: [&str; 3] = ["rustc-web", "rust-web-src", "libstd-rust-web-dev"];

/// Arguments of `app`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Only the engine: `apps/chat/src/wasm`.
    #[arg(long)]
    engine: bool,

    /// With what tests of the store need; not to be served.
    #[arg(long)]
    contract: bool,
}

/// Builds both and says where they are.
pub(crate) fn run(args: &Args) -> Result<ExitCode> {
    need::check(&[&need::RUST, &need::NODE_FOR_APP])?;
    let built = engine(args.contract)?;
    println!("engine    {}", built.display());
    if args.engine {
        return Ok(ExitCode::SUCCESS);
    }
    for (app, name) in [(CHAT, "app"), (CONSOLE, "console")] {
        let Pages { dist, size, manifest } = pages(app)?;
        println!("{name:10}{}: {size}", dist.display());
        println!("manifest  {manifest}");
    }
    Ok(ExitCode::SUCCESS)
}

/// An app, built whole: for `up`, which says nothing more of it.
pub(crate) fn build(app: &str) -> Result<PathBuf> {
    if app == CHAT {
        engine(false)?;
    }
    Ok(pages(app)?.dist)
}

/// Where an app is built.
fn folder(app: &str) -> PathBuf {
    shell::root().join("apps").join(app)
}

/// Builds the engine and JavaScript's side of it.
pub(crate) fn engine(contract: bool) -> Result<PathBuf> {
    let compiler = compiler()?;
    // A folder of its own: another compiler than the programs', and other flags.
    let target = shell::target()?.join("web");
    let began = Instant::now();
    let mut build = shell::cargo(["build", "--locked", "--profile", "web", "-p", "bulla-web-core", "--target", TARGET]);
    build.env("CARGO_TARGET_DIR", &target).env("RUSTFLAGS", "--cfg getrandom_backend=\"wasm_js\"");
    if contract {
        build.args(["--features", "contract"]);
    }
    if let Some(rustc) = compiler {
        build.env("RUSTC", rustc);
    }
    println!("build     the engine for browsers: some minutes the first time");
    shell::must(&mut build, "building the engine")?;
    let module = target.join(TARGET).join("web/bulla_web_core.wasm");
    let wasm = folder(CHAT).join("src/wasm");
    let mut bindgen = shell::cargo(["run", "--quiet", "--locked", "-p", "bulla-bindgen", "--"]);
    shell::must(bindgen.args([&module, &wasm]), "making JavaScript's side of the engine")?;
    println!("build     the engine in {} s", began.elapsed().as_secs());
    Ok(wasm)
}

/// `npm` in an app's folder, with what it is built with installed.
pub(crate) fn npm(app: &str, args: &[&str]) -> Result<Command> {
    let command = |args: &[&str]| {
        let mut command = Command::new("npm");
        command.current_dir(folder(app)).args(args);
        command
    };
    let (lock, made_of) = (folder(app).join("package-lock.json"), folder(app).join("node_modules/.made-of"));
    let lock = std::fs::read(&lock).with_context(|| format!("{} cannot be read", lock.display()))?;
    if !std::fs::read(&made_of).is_ok_and(|made_of| made_of == lock) {
        shell::must(&mut command(&["ci", "--no-audit", "--no-fund"]), "installing what the app is built with")?;
        std::fs::write(&made_of, &lock)?;
    }
    Ok(command(args))
}

/// The pages, built.
pub(crate) struct Pages {
    /// Where they are.
    pub(crate) dist: PathBuf,
    /// How large, in words.
    size: String,
    /// The hash of all of it.
    manifest: String,
}

/// Builds an app's pages.
pub(crate) fn pages(app: &str) -> Result<Pages> {
    shell::must(&mut npm(app, &["run", "build"])?, "building the app")?;
    let dist = folder(app).join("dist");
    let compress = folder(CHAT).join("compress.mjs");
    let size = shell::must(Command::new("node").arg(compress).arg(&dist), "compressing it")?;
    let manifest = manifest(&dist)?;
    Ok(Pages { dist, size: size.trim().to_owned(), manifest })
}

/// One hash over all files of a build, by name: what `sha256sum` prints for each, sorted, hashed again. The compressed ones are the same again.
/// The list lies beside them, for `bulla app verify`.
fn manifest(dist: &Path) -> Result<String> {
    const SUMS: &str = "SHA256SUMS.txt";
    let mut lines = Vec::new();
    list(dist, "", &mut lines)?;
    lines.retain(|line| !line.ends_with(&format!("  {SUMS}\n")));
    lines.sort();
    let all = lines.concat();
    std::fs::write(dist.join(SUMS), &all).with_context(|| format!("{SUMS} cannot be written"))?;
    Ok(hex(&Sha256::digest(all)))
}

fn list(folder: &Path, prefix: &str, lines: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        let entry = entry?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            list(&entry.path(), &format!("{name}/"), lines)?;
        } else if !name.ends_with(".br") {
            lines.push(format!("{}  {name}\n", hex(&Sha256::digest(std::fs::read(entry.path())?))));
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The compiler for the target, if it is not the one that builds everything else.
fn compiler() -> Result<Option<PathBuf>> {
    let sysroot = shell::stdout_of(Command::new("rustc").args(["--print", "sysroot"]))?;
    let sysroot = PathBuf::from(String::from_utf8_lossy(&sysroot).trim());
    if sysroot.join("lib/rustlib").join(TARGET).join("lib").exists() {
        return Ok(None);
    }
    let offered = Command::new("apt-cache").args(["show", "rustc-web"]).output();
    if !offered.is_ok_and(|shown| shown.status.success() && !shown.stdout.is_empty()) {
        bail!("the compiler cannot build for {TARGET}: `rustup target add {TARGET}`, then again");
    }
    debian(&sysroot).map(Some)
}

/// A compiler out of Debian's packages, unpacked and not installed, with a standard library built from its sources.
fn debian(sysroot: &Path) -> Result<PathBuf> {
    let place = shell::private().join("wasm");
    let rustc = place.join("rustc");
    if place.join("done").exists() {
        return Ok(rustc);
    }
    println!("build     a compiler for {TARGET} out of Debian's packages: a minute, once");
    let _ = std::fs::remove_dir_all(&place);
    let (root, packages, library) = (place.join("root"), place.join("packages"), place.join("std"));
    for folder in [&root, &packages, &library.join("src")] {
        std::fs::create_dir_all(folder)?;
    }
    let depends = |package: &str, prefix: &str| -> Result<String> {
        let shown = shell::stdout_of(Command::new("apt-cache").args(["depends", package]))?;
        let shown = String::from_utf8_lossy(&shown).into_owned();
        let found =
            shown.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).find(|d| d.starts_with(prefix));
        found
            .map(str::to_owned)
            .with_context(|| format!("{package} depends on no {prefix}…: `apt-get update`, then again"))
    };
    let standard = depends("libstd-rust-web-dev", "libstd-rust-web-")?;
    let llvm = depends(&standard, "libllvm")?;
    let mut download = Command::new("apt-get");
    download.current_dir(&packages).args(["download", "-qq"]).args(DEBIAN).args([&standard, &llvm]);
    shell::must(&mut download, "fetching Debian's compiler")?;
    for package in std::fs::read_dir(&packages)? {
        shell::must(Command::new("dpkg-deb").arg("-x").arg(package?.path()).arg(&root), "unpacking it")?;
    }
    let usr = root.join("usr");
    let libraries = usr.join("lib/x86_64-linux-gnu");
    let wrapper = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{}'${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}} exec '{}' \"$@\"\n",
        libraries.display(),
        usr.join("bin/rustc").display()
    );
    std::fs::write(&rustc, wrapper)?;
    shell::must(Command::new("chmod").arg("+x").arg(&rustc), "making it a program")?;
    let version = shell::stdout_of(Command::new(&rustc).arg("--version"))?;
    if !need::RUST.is_met_by(&String::from_utf8_lossy(&version)) {
        let version = String::from_utf8_lossy(&version).trim().to_owned();
        bail!("Debian's compiler for browsers is {version}, which is too old: `apt-get update`, then again");
    }
    // Debian's compiler comes without a linker for the target; the one that is here has one.
    let host = "lib/rustlib/x86_64-unknown-linux-gnu/bin";
    std::fs::create_dir_all(usr.join(host))?;
    let _ = std::fs::remove_file(usr.join(host).join("rust-lld"));
    std::os::unix::fs::symlink(sysroot.join(host).join("rust-lld"), usr.join(host).join("rust-lld"))?;
    let built = standard_library(&library, &rustc)?;
    let into = usr.join("lib/rustlib").join(TARGET).join("lib");
    std::fs::create_dir_all(&into)?;
    for part in std::fs::read_dir(built)? {
        let part = part?;
        let name = part.file_name().to_string_lossy().into_owned();
        if name.ends_with(".rlib") && !name.starts_with("libnothing") {
            std::fs::copy(part.path(), into.join(name))?;
        }
    }
    for folder in [&library, &packages] {
        std::fs::remove_dir_all(folder)?;
    }
    std::fs::write(place.join("done"), "")?;
    Ok(rustc)
}

/// Builds the standard library below an empty crate; where its parts are then.
fn standard_library(folder: &Path, rustc: &Path) -> Result<PathBuf> {
    let manifest = "[package]\nname = \"nothing\"\nversion = \"0.0.0\"\nedition = \"2021\"\n\n[workspace]\n\n\
                    [profile.release]\npanic = \"abort\"\n";
    std::fs::write(folder.join("Cargo.toml"), manifest)?;
    std::fs::write(folder.join("src/lib.rs"), "")?;
    let target = folder.join("target");
    let mut build =
        shell::cargo(["build", "--quiet", "--release", "-Zbuild-std=std,panic_abort,proc_macro", "--target", TARGET]);
    build.current_dir(folder).env_remove("RUSTFLAGS").env("RUSTC_BOOTSTRAP", "1").env("RUSTC", rustc);
    shell::must(build.env("CARGO_TARGET_DIR", &target), "building the standard library for browsers")?;
    Ok(target.join(TARGET).join("release/deps"))
}
