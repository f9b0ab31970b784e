//! Where things are if nobody says: below the user's data folder (`$XDG_DATA_HOME/bulla`, usually `~/.local/share/bulla`).

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use etcetera::BaseStrategy as _;

/// What `bulla up` keeps: `relay/` and `gateway/` below it.
pub(crate) fn demo() -> anyhow::Result<PathBuf> {
    Ok(base()?.join("demo"))
}

/// What `bulla chat` keeps of one business. One folder each: nothing of one conversation lies beside another's.
pub(crate) fn chat(business: &[u8]) -> anyhow::Result<PathBuf> {
    let name = data_encoding::HEXLOWER.encode(business.get(..8).unwrap_or(business));
    Ok(base()?.join("chat").join(name))
}

fn base() -> anyhow::Result<PathBuf> {
    let strategy = etcetera::choose_base_strategy().context("there is no home folder; say where with --data DIR")?;
    Ok(strategy.data_dir().join("bulla"))
}

/// Makes a folder for its owner's eyes only.
pub(crate) fn make(folder: &Path) -> anyhow::Result<()> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| format!("cannot make the folder {}; choose another with --data", folder.display()))
}

/// A path as people write it: `~` for the home folder.
pub(crate) fn shown(path: &Path) -> String {
    let home = etcetera::home_dir().ok().and_then(|home| path.strip_prefix(home).ok().map(Path::to_owned));
    home.map_or_else(|| path.display().to_string(), |rest| format!("~/{}", rest.display()))
}

/// The gateway's folder in what somebody named: it itself, or what `bulla up` keeps; the demo's if nobody named one.
pub(crate) fn gateway(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    let data = named.map_or_else(demo, Ok)?;
    let inner = data.join("gateway");
    Ok(if inner.is_dir() { inner } else { data })
}
