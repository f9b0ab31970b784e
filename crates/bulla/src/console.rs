//! `bulla console`: a new link to the developer's console.

use std::path::PathBuf;
use std::process::ExitCode;

use bulla_gateway::new_console_link;

use crate::folders;

/// Prints a link that opens a running business's console in a browser: once, within an hour.
///
/// The browser stays in until the gateway ends or nobody looked for twelve hours. Whoever has the link before it is used reads what
/// customers write and can write in the business's name.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of `bulla up`, or of `bulla gateway serve`.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let link = new_console_link(&folders::gateway(args.data.clone())?)?;
    println!("{}", link.expose());
    Ok(ExitCode::SUCCESS)
}
