//! `bulla env`: what a developer needs, as shell variables.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use bulla_gateway::{Credentials, read_credentials};

use crate::folders;

/// Prints a running business's base URL, number id, token and secrets as shell variables.
///
/// Use it as `eval "$(bulla env)"`. The variables are BULLA_API_BASE, BULLA_PHONE_NUMBER_ID, BULLA_WABA_ID, BULLA_APP_ID,
/// BULLA_ACCESS_TOKEN, BULLA_APP_SECRET, BULLA_VERIFY_TOKEN, BULLA_LINK and BULLA_RELAY_URL.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder of `bulla up`, or of `bulla gateway serve`.
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,

    /// Which business, if the gateway serves several.
    #[arg(long, value_name = "HANDLE")]
    business: Option<String>,

    /// Print JSON on one line instead.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let all = read_credentials(&folders::gateway(args.data.clone())?)?;
    let credentials = choose(&all, args.business.as_deref())?;
    if args.json {
        println!("{}", serde_json::to_string(credentials)?);
    } else {
        for (name, value) in variables(credentials) {
            println!("export {name}={}", quoted(value));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn choose<'a>(all: &'a [Credentials], wanted: Option<&str>) -> anyhow::Result<&'a Credentials> {
    match (all, wanted) {
        ([one], None) => Ok(one),
        (_, Some(handle)) => all
            .iter()
            .find(|c| c.handle == handle)
            .with_context(|| format!("this gateway serves no business '{handle}'")),
        _ => {
            let handles: Vec<_> = all.iter().map(|c| c.handle.as_str()).collect();
            bail!("this gateway serves several businesses; choose one with --business: {}", handles.join(", "))
        }
    }
}

fn variables(c: &Credentials) -> [(&'static str, &str); 9] {
    [
        ("BULLA_LINK", &c.link),
        ("BULLA_API_BASE", &c.api_base),
        ("BULLA_PHONE_NUMBER_ID", &c.phone_number_id),
        ("BULLA_WABA_ID", &c.waba_id),
        ("BULLA_APP_ID", &c.app_id),
        ("BULLA_ACCESS_TOKEN", c.access_token.expose()),
        ("BULLA_APP_SECRET", c.app_secret.expose()),
        ("BULLA_VERIFY_TOKEN", c.verify_token.expose()),
        ("BULLA_RELAY_URL", &c.relay_url),
    ]
}

/// In single quotes, so that no shell reads anything into it.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_meant() {
        for value in ["plain", "it's", "$(rm -rf x) `y` \"z\" \\ #k=a&b", "'"] {
            let script = format!("x={}; printf %s \"$x\"", quoted(value));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), value);
        }
    }
}
