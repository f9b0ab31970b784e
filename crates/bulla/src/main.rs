//! `bulla`: the one program for people. `up` tries everything on one machine, `gateway` runs a business's endpoint, `chat` is a
//! customer's terminal, `env` prints what a developer needs, `console` a link to what a developer looks at.
//!
//! The relay is a program of its own, `bulla-relay`, and never linked into this one: `up` starts it as a process, so that "the relay
//! cannot read" stays a fact of the build.

mod app;
mod chat;
mod console;
mod env;
mod folders;
mod gateway;
mod log;
mod text;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// End-to-end encrypted conversations between a business and its customers.
///
/// The business's side speaks the WhatsApp Cloud API and holds the keys itself; customers open a link, without account or phone number.
/// Start with `bulla up`.
#[derive(Debug, Parser)]
#[command(name = "bulla", version)]
struct Cli {
    /// What to log: error, warn, info, debug or trace, or a filter such as bulla_client=debug; warn if nobody says. To standard error; from the
    /// screen of `bulla chat` to chat.log in its data folder, and only if asked for. Never what people write, never names or keys.
    #[arg(long, env = "BULLA_LOG", global = true, value_name = "LEVEL")]
    log: Option<String>,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Up(up::Args),
    Env(env::Args),
    Console(console::Args),
    Chat(chat::Args),
    #[command(subcommand)]
    Gateway(gateway::Command),
    /// The customer's web app, as somebody serves it.
    #[command(subcommand)]
    App(app::Command),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let ended = match cli.command {
        // What the chat logs would stand in the middle of its screen: it decides where that goes.
        Command::Chat(args) => chat::run(args, cli.log.as_deref()),
        command => log::to_stderr(cli.log.as_deref().unwrap_or(log::DEFAULT)).and_then(|()| match command {
            Command::Up(args) => up::run(args),
            Command::Env(args) => env::run(&args),
            Command::Console(args) => console::run(&args),
            Command::Gateway(command) => gateway::run(command),
            Command::App(command) => app::run(command),
            Command::Chat(_) => unreachable!("matched above"),
        }),
    };
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("bulla: {}", text::sentence(&format!("{error:#}")));
            ExitCode::FAILURE
        }
    }
}

/// The runtime of every command.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    use anyhow::Context as _;
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start threads")
}
