//! Backup and restore, with the program that an operator has: who can go on, what is refused, and what is in no backup.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use bulla_protocol::frame::{Code, PublishBundle, Role, client_frame::Body as C, server_frame::Body as S};
use bulla_protocol::id::GrantId;
use bulla_protocol::permit::Class;
use bulla_relay::disclose::Disclosure;

use crate::common::*;
use crate::operator::lasting;
use crate::program::{PROGRAM, Process, run, sentence};

fn program(command: &str, data: &Path, more: &[&str]) -> Output {
    let mut program = Command::new(PROGRAM);
    program.env_clear().arg(command).arg("--data").arg(data).args(more).output().unwrap()
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn disclosed(data: &Path) -> Disclosure {
    serde_json::from_str(&done(&run(&["disclose", "--json"], data))).unwrap()
}

fn holds(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn from_a_backup_of_a_running_relay_everybody_goes_on_and_nothing_that_waited_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let (data, new) = (dir.path().join("relay"), dir.path().join("new"));
    let (file, path) = (dir.path().join("backup"), dir.path().join("backup").display().to_string());
    let mut process = Process::start(&data, "warn", NAME);
    let (mailbox, other) = (Mailbox::new(0xa1).raised(5, 5), Mailbox::new(0xb2));
    let canary = "backup-canary-4711-of-no-file";
    let mut owner = Client::connect(&process.url, Role::Owner).await;
    for mailbox in [&mailbox, &other] {
        owner.create(mailbox).await;
        owner.open(mailbox).await;
    }
    let withdrawn = mailbox.given(Class::Ordinary, |permit| {
        permit.expires = u32::MAX;
        permit.grant = GrantId::new([0x77; 16]);
    });
    let mut sender = Client::connect(&process.url, Role::Anonymous).await;
    sender.send(&withdrawn, b"before it was withdrawn").await;
    owner.revoke(&mailbox, withdrawn.permit.grant).await;
    sender.send(&lasting(&mailbox), canary.as_bytes()).await;
    assert_eq!(sender.claim(slot(1), canary.as_bytes()).await, won());
    let bundle = PublishBundle { mailbox: mailbox.id.to_vec(), bundle: canary.into() };
    assert!(matches!(owner.ask(C::PublishBundle(bundle)).await, S::Done(_)));

    let made = program("backup", &data, &[&path]);
    assert_eq!(done(&made), format!("{path}: 2 mailboxes, 1 revocations\n"));
    let said = String::from_utf8(made.stderr).unwrap();
    assert!(said.contains("keep it as secret as the data folder"), "{said}");
    let (bytes, keys) = (std::fs::read(&file).unwrap(), std::fs::read(data.join("keys")).unwrap());
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(holds(&bytes, mailbox.root.expose()) && holds(&bytes, NAME.as_bytes()), "the control: it is a backup");
    assert!(!holds(&bytes, canary.as_bytes()), "an envelope, a commit or a bundle");
    let used: Vec<&[u8]> = keys.chunks(64).map(|slot| &slot[17..49]).collect();
    assert_eq!(used.len(), 2, "the control: a day's key and a backlog's");
    assert!(used.iter().all(|key| !key.windows(8).any(|part| holds(&bytes, part))), "a key");
    let again = sentence(&program("backup", &data, &[&path]));
    assert!(again.contains("is there already"), "{again}");
    assert_eq!(std::fs::read(&file).unwrap(), bytes);

    // Later than the backup.
    owner.open(&mailbox.raised(9, 9)).await;
    process.kill();
    let before = disclosed(&data);
    let restored = done(&program("restore", &new, &[&path]));
    assert!(restored.contains("a new instance id") && restored.contains(&format!("--name {NAME}")), "{restored}");
    let after = disclosed(&new);
    assert_ne!(after.instance, before.instance);
    assert_eq!(after.mailboxes.len(), 2);
    for (after, before) in after.mailboxes.iter().zip(&before.mailboxes) {
        assert_eq!(
            (&after.mailbox, &after.owner_key, &after.mac_root, after.renewed_month, &after.revoked_grants),
            (&before.mailbox, &before.owner_key, &before.mac_root, before.renewed_month, &before.revoked_grants)
        );
        assert!(after.envelopes.is_empty() && after.bundle.is_none());
    }
    assert!(after.slots.is_empty() && after.blobs.is_empty());
    assert_eq!(std::fs::metadata(&new).unwrap().permissions().mode() & 0o777, 0o700);

    let process = Process::start(&new, "warn", NAME);
    let mut sender = Client::connect(&process.url, Role::Anonymous).await;
    assert_eq!(data_encoding::HEXLOWER.encode(&sender.hello.instance), after.instance);
    assert_eq!(code(&sender.try_send(&withdrawn, b"x").await), Code::Refused);
    sender.send(&lasting(&mailbox), b"after it").await;
    // Of the incarnation it knows what the backup knew: an older copy between the two is let in until the latest is
    // back.
    let mut copy = Client::connect(&process.url, Role::Owner).await;
    assert_eq!(copy.try_open(&mailbox.raised(4, 4)).await, superseded_by(5));
    copy.open(&mailbox.raised(7, 7)).await;
    let mut owner = Client::connect(&process.url, Role::Owner).await;
    // As an endpoint does that sees a new instance id.
    owner.create(&mailbox).await;
    let latest = mailbox.raised(9, 9);
    owner.open(&latest).await;
    assert!(matches!(copy.event().await, S::Superseded(_)));
    owner.subscribe(&latest).await;
    assert_eq!(owner.texts(1).await, ["after it"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_relay_is_backed_up_too_and_a_bad_backup_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("relay");
    let process = Process::start(&data, "warn", NAME);
    let mailbox = Mailbox::new(0xa1);
    let mut owner = Client::connect(&process.url, Role::Owner).await;
    owner.create(&mailbox).await;
    process.terminate();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let nameless = program("backup", &data, &[&at("nameless")]);
    done(&nameless);
    assert!(String::from_utf8(nameless.stderr).unwrap().contains("Say it with --name"));
    done(&program("backup", &data, &["--name", NAME, &at("good")]));
    let good = std::fs::read(at("good")).unwrap();
    assert!(holds(&good, NAME.as_bytes()) && !holds(&std::fs::read(at("nameless")).unwrap(), NAME.as_bytes()));

    let mut later = good.clone();
    later[16] = 9;
    let mut flipped = good.clone();
    let root = flipped.windows(32).position(|window| window == mailbox.root.expose()).unwrap();
    flipped[root] ^= 1;
    let new = dir.path().join("new");
    for (name, bytes, words) in [
        ("short", &good[..good.len() - 1], "damaged (it ends too early)"),
        ("flipped", &flipped[..], "damaged (its sum)"),
        ("later", &later[..], "format 9"),
        ("other", b"a photograph of a relay", "is not a backup of a relay"),
    ] {
        std::fs::write(at(name), bytes).unwrap();
        let error = sentence(&program("restore", &new, &[&at(name)]));
        assert!(error.contains(words), "{name}: {error}");
        assert!(!new.exists());
    }
    let full = sentence(&program("restore", &data, &[&at("good")]));
    assert!(full.contains("is there already"), "{full}");
    let none = sentence(&program("backup", &dir.path().join("nothing"), &[&at("x")]));
    assert!(none.contains("is not the data folder of a relay"), "{none}");
    // An empty folder is as good as none: a service manager makes one.
    std::fs::create_dir(&new).unwrap();
    done(&program("restore", &new, &[&at("good")]));
    assert_eq!(disclosed(&new).mailboxes[0].mailbox, mailbox.id.to_hex());
    let partial = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert!(!partial.into_iter().any(|name| name.contains("partial")));
}
