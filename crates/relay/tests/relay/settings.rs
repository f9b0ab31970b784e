//! Where an operator says what: file, environment, flags.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use bulla_protocol::frame::Role;

use crate::common::*;
use crate::program::{PROGRAM, Process, sentence};

/// The program in an environment that says nothing but this.
fn program(environment: &[(&str, &str)], args: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.env_clear().envs(environment.iter().copied()).args(args);
    command
}

fn output(environment: &[(&str, &str)], args: &[&str]) -> Output {
    program(environment, args).output().unwrap()
}

fn printed(environment: &[(&str, &str)], args: &[&str]) -> String {
    let output = output(environment, &[&["config"], args].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn write(folder: &Path, text: &str) -> PathBuf {
    let file = folder.join("relay.toml");
    std::fs::write(&file, text).unwrap();
    file
}

/// The line of a setting.
fn said<'a>(text: &'a str, key: &str) -> &'a str {
    let begins = format!("{key} = ");
    text.lines().find(|line| line.starts_with(&begins)).unwrap_or_else(|| panic!("no {key} in {text}"))
}

#[test]
fn the_printed_file_is_the_defaults_and_has_every_setting() {
    let dir = tempfile::tempdir().unwrap();
    let defaults = printed(&[], &[]);
    let file = write(dir.path(), &defaults);
    assert_eq!(printed(&[], &["--config", file.to_str().unwrap()]), defaults);

    // Everything that is commented out is a setting, too.
    let all = defaults
        .replace("#data = \"DIR\"", "data = \"/srv/relay\"")
        .replace("#metrics = \"ADDR\"", "metrics = \"127.0.0.1:8471\"")
        .replace("#domains = [\"NAME\"]", "domains = [\"a.example\", \"b.example\"]")
        .replace("#acme_contact = \"MAILTO\"", "acme_contact = \"mailto:me@a.example\"")
        .replace("#acme_ca = \"FILE\"", "acme_ca = \"/srv/ca.pem\"");
    let others: Vec<&str> = all.lines().filter(|line| line.starts_with('#') && !line.starts_with("# ")).collect();
    assert_eq!(others, ["#cert = \"FILE\"", "#key = \"FILE\""]);
    let file = write(dir.path(), &all);
    assert_eq!(printed(&[], &["--config", file.to_str().unwrap()]), all);
    let pair = defaults.replace("#cert = \"FILE\"", "cert = \"a\"").replace("#key = \"FILE\"", "key = \"b\"");
    let file = write(dir.path(), &pair);
    assert_eq!(printed(&[], &["--config", file.to_str().unwrap()]), pair);

    // And no flag of `serve` that decides something is missing.
    let help = String::from_utf8(output(&[], &["serve", "--help"]).stdout).unwrap();
    let flags = help.lines().filter_map(|line| line.trim().strip_prefix("--")).filter(|line| line.contains('<'));
    let flags: Vec<&str> = flags.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(flags.len() > 12, "{flags:?}");
    for flag in flags.into_iter().filter(|flag| *flag != "config") {
        assert!(defaults.contains(&format!(", --{flag})")), "--{flag} is not in the file");
    }
}

#[test]
fn a_flag_counts_more_than_the_environment_than_the_file_than_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "name = \"file\"\nwork_bits = 5\nblob_mib = 7\n[tls]\ndomains = [\"file.example\"]\n");
    let file = file.to_str().unwrap();
    let environment = [
        ("BULLA_RELAY_CONFIG", file),
        ("BULLA_RELAY_NAME", "environment"),
        ("BULLA_RELAY_WORK_BITS", "6"),
        ("RUST_LOG", "warn"),
    ];
    let all = printed(&environment, &["--name", "flag"]);
    assert_eq!(said(&all, "name"), "name = \"flag\"");
    assert_eq!(said(&all, "work_bits"), "work_bits = 6");
    assert_eq!(said(&all, "blob_mib"), "blob_mib = 7");
    assert_eq!(said(&all, "memory_mib"), "memory_mib = 512");
    assert_eq!(said(&all, "domains"), "domains = [\"file.example\"]");
    assert_eq!(said(&all, "log"), "log = \"warn\"");
    let logs = [("RUST_LOG", "warn"), ("BULLA_RELAY_LOG", "error"), ("BULLA_RELAY_DOMAIN", "a.example,b.example")];
    let all = printed(&logs, &[]);
    assert_eq!(said(&all, "log"), "log = \"error\"");
    assert_eq!(said(&all, "domains"), "domains = [\"a.example\", \"b.example\"]");
    let level = write(dir.path(), "log = \"debug\"");
    assert_eq!(said(&printed(&[], &["--config", level.to_str().unwrap()]), "log"), "log = \"debug\"");
}

#[test]
fn what_is_wrong_in_a_file_is_said_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    for (text, line, words) in [
        ("name = \"a\"\n\nwork_bitz = 3", 3, "no setting 'work_bitz'; the nearest is 'work_bits'"),
        ("surprise = 3", 1, "no setting 'surprise'. "),
        ("[tls]\n\ncret = \"a\"", 3, "no setting 'tls.cret'; the nearest is 'tls.cert'"),
        ("[other]\nname = \"a\"", 1, "no setting 'other'"),
        ("cert = \"a\"", 1, "no setting 'cert'"),
        ("json = true", 1, "no setting 'json'"),
        ("\nwork_bits = 29", 2, "'work_bits' cannot be '29': 29 is not in 0..=28"),
        ("listen = \"relay\"", 1, "'listen' cannot be 'relay': invalid socket address"),
        ("name = \"\"", 1, "'name' cannot be ''"),
        ("listen = true", 1, "'listen' cannot be a TOML boolean"),
        ("listen = [\"127.0.0.1:1\"]", 1, "'listen' cannot be a TOML array"),
        ("[tls]\ndomains = \"a.example\"", 2, "'tls.domains' cannot be a TOML string: a list"),
        ("name = \"a\"\nname = \"b\"", 2, "duplicate key"),
        ("name = a", 1, "TOML"),
    ] {
        let file = write(dir.path(), text);
        let error = sentence(&output(&[], &["config", "--config", file.to_str().unwrap()]));
        assert!(error.contains(&format!("relay.toml, line {line}: ")) && error.contains(words), "{text}: {error}");
    }
    for (text, words) in [
        ("[tls]\ncert = \"a\"", "belong together"),
        ("[tls]\ncert = \"a\"\nkey = \"b\"\ndomains = [\"a.example\"]", "choose one"),
    ] {
        let file = write(dir.path(), text);
        let error = sentence(&output(&[], &["config", "--config", file.to_str().unwrap()]));
        assert!(error.contains(words), "{text}: {error}");
    }
    let error = sentence(&output(&[], &["config", "--config", "/nowhere/relay.toml"]));
    assert!(error.contains("cannot read the settings in /nowhere/relay.toml"), "{error}");
    let large = write(dir.path(), &"#\n".repeat(1 << 20));
    let error = sentence(&output(&[], &["config", "--config", large.to_str().unwrap()]));
    assert!(error.contains("larger than"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_is_what_its_file_says() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("relay");
    let text = format!("data = {data:?}\nlisten = \"127.0.0.1:0\"\nname = \"{NAME}\"\nwork_bits = 3\nlog = \"warn\"\n");
    let file = write(dir.path(), &text);
    let process = Process::spawn(&mut program(&[], &["serve", "--json", "--config", file.to_str().unwrap()]));
    let client = Client::connect(&process.url, Role::Anonymous).await;
    assert_eq!((client.hello.name.as_str(), client.hello.work_bits), (NAME, 3));
    assert!(data.join("store").is_dir());
    drop(client);
    assert_eq!(process.terminate(), "", "nothing to warn of");
}

/// What the unit, the image and the manual speak of is there.
#[test]
fn what_is_shipped_and_written_names_no_setting_that_is_none() {
    let defaults = printed(&[], &[]);
    let shipped = [
        include_str!("../../../../deploy/bulla-relay.service"),
        include_str!("../../../../deploy/Dockerfile"),
        include_str!("../../../../docs/operator.md"),
    ];
    let (mut variables, mut commands) = (0, 0);
    for text in shipped {
        for word in text.split(|c: char| !c.is_ascii_uppercase() && c != '_') {
            if word.starts_with("BULLA_RELAY_") && word != "BULLA_RELAY_CONFIG" {
                assert!(defaults.contains(&format!("({word}, ")), "{word}");
                variables += 1;
            }
        }
        for said in text.split("bulla-relay ").skip(1) {
            let words: Vec<&str> = said.lines().next().unwrap_or_default().split([' ', '`']).collect();
            let [command, more @ ..] = words.as_slice() else { continue };
            if !["serve", "config", "check", "disclose", "backup", "restore"].contains(command) {
                continue;
            }
            let help = String::from_utf8(output(&[], &[command, "--help"]).stdout).unwrap();
            for flag in more.iter().take_while(|word| !word.is_empty()).filter(|word| word.starts_with("--")) {
                assert!(help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")), "{command} {flag}");
            }
            commands += 1;
        }
    }
    assert!(variables >= 5 && commands >= 8, "{variables}, {commands}");
}
