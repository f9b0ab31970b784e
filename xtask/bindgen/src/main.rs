//! `bulla-bindgen MODULE.wasm FOLDER`: the module and its JavaScript, for `<script type="module">` and workers.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use wasm_bindgen_cli_support::Bindgen;

fn main() -> Result<()> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let (module, folder) =
        (arguments.next().context("which module?")?, arguments.next().context("into which folder?")?);
    // Without a default path: whoever loads the module names it, so that its name can carry its hash.
    let mut bindgen = Bindgen::new();
    bindgen.web(true)?.omit_default_module_path(false).typescript(true).input_path(&module).out_name("web_core");
    // Names are for debuggers, and a fifth of what goes over the wire.
    bindgen.remove_name_section(true).remove_producers_section(true);
    bindgen.generate(&folder).with_context(|| format!("{} is no module of wasm-bindgen's", module.display()))
}
