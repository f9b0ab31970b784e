//! The customer's app on a web server that is not the gateway: exported, served by a real nginx, looked at as customers and auditors do.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use bulla_testkit::apart::{Apart, Plan};
use bulla_testkit::process::{Part, program, run, turn};
use bulla_testkit::wait::{GUARD, look};
use reqwest::header::{ACCEPT, HeaderMap};
use sha2::{Digest as _, Sha256};

/// A build of the app as far as a web server can tell: a file of each kind, one of them compressed, and the list of all.
fn build(folder: &Path) -> Result<()> {
    let files = [
        ("index.html", "<!doctype html><title>the page</title>"),
        ("widget.js", "'the widget'"),
        ("app.webmanifest", "{}"),
        ("icon.svg", "<svg xmlns=\"http://www.w3.org/2000/svg\"/>"),
        ("assets/app-1.js", "'the app'"),
        ("assets/app-1.css", "a { }"),
        ("assets/engine-1.wasm", "\0asm\u{1}\0\0\0"),
    ];
    std::fs::create_dir_all(folder.join("assets"))?;
    let mut sums = String::new();
    for (name, text) in files {
        std::fs::write(folder.join(name), text)?;
        let sum = data_encoding::HEXLOWER.encode(&Sha256::digest(text));
        sums.push_str(&format!("{sum}  {name}\n"));
    }
    std::fs::write(folder.join("assets/app-1.js.br"), "compressed")?;
    std::fs::write(folder.join("SHA256SUMS.txt"), sums)?;
    Ok(())
}

/// An nginx in one process, that listens where it is told and includes what was exported.
fn nginx(folder: &Path, exported: &Path, port: u16) -> Result<Part> {
    let server = std::fs::read_to_string(exported.join("nginx.conf"))?;
    ensure!(server.contains("# listen 443 ssl;"), "where an operator says where it listens:\n{server}");
    let server = server.replace("# listen 443 ssl;", &format!("listen 127.0.0.1:{port};"));
    let server_file = folder.join("server.conf");
    std::fs::write(&server_file, server)?;
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|kind| format!("{kind}_temp_path {}/{kind};\n", folder.display()))
        .collect();
    let main = format!(
        "daemon off; master_process off; error_log stderr; pid {0}/nginx.pid;\nevents {{ }}\nhttp {{ {temporary} include {1}; }}\n",
        folder.display(),
        server_file.display()
    );
    let main_file = folder.join("main.conf");
    std::fs::write(&main_file, main)?;
    Part::start(Command::new("nginx").args(["-e", "stderr", "-p"]).arg(folder).arg("-c").arg(main_file))
}

/// Headers that say what a page may do, and how long it is kept.
fn rules(headers: &HeaderMap) -> BTreeMap<&str, &str> {
    let named = [
        "content-type",
        "content-security-policy",
        "cache-control",
        "x-content-type-options",
        "referrer-policy",
        "cross-origin-opener-policy",
        "cross-origin-resource-policy",
        "permissions-policy",
    ];
    let value = |name| Some((name, headers.get(name)?.to_str().ok()?));
    named.into_iter().filter_map(value).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exported_app_is_served_by_nginx_as_by_the_gateway() -> Result<()> {
    let _turn = turn()?;
    let folder = tempfile::Builder::new().prefix("bulla-export-").tempdir()?;
    let (app, exported) = (folder.path().join("app"), folder.path().join("exported"));
    build(&app)?;
    let parts = Apart::start(Plan { app: Some(app.clone()), ..Plan::new()? }).await?;
    let here = parts.ready.link.split("/@").next().context("a link")?.to_owned();
    let export = run(Command::new(program("bulla")?)
        .args(["app", "export"])
        .arg(&exported)
        .arg("--app")
        .arg(&app)
        .args(["--relay", &parts.relay_url, "--gateway", &here]))
    .await?;
    ensure!(export.code == Some(0) && export.out.starts_with("9 files in"), "{export:?}");
    let again = run(Command::new(program("bulla")?)
        .args(["app", "export"])
        .arg(&exported)
        .arg("--app")
        .arg(&app)
        .args(["--relay", &parts.relay_url]))
    .await?;
    ensure!(again.code == Some(1) && again.err.contains("is not empty"), "nothing is written over: {again:?}");

    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut server = nginx(folder.path(), &exported, port)?;
    let there = format!("http://127.0.0.1:{port}");
    let web = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build()?;
    look(GUARD, "nginx to listen", || std::net::TcpStream::connect(("127.0.0.1", port)).ok())
        .await
        .with_context(|| server.stderr.all().join("\n"))?;

    // What everybody gets: the same bytes under the same rules as from the gateway.
    let handle = format!("/@{}", parts.ready.handle);
    let files = ["/", &handle, "/widget.js", "/app.webmanifest", "/icon.svg", "/assets/app-1.js", "/assets/app-1.css"];
    for path in files.into_iter().chain(["/assets/engine-1.wasm", "/SHA256SUMS.txt"]) {
        let [ours, theirs] = [&here, &there].map(|origin| web.get(format!("{origin}{path}")).header(ACCEPT, "*/*"));
        let (ours, theirs) = (ours.send().await?, theirs.send().await?);
        ensure!(ours.status() == 200 && theirs.status() == 200, "{path}: {} and {}", ours.status(), theirs.status());
        ensure!(
            rules(ours.headers()) == rules(theirs.headers()),
            "{path}: {:#?}\n{:#?}",
            rules(ours.headers()),
            rules(theirs.headers())
        );
        ensure!(ours.bytes().await? == theirs.bytes().await?, "{path}");
    }
    for path in ["/assets/app-1.js.br", "/nothing", "/@", "/assets/"] {
        let status = web.get(format!("{there}{path}")).send().await?.status();
        ensure!(status == 404 || status == 403, "{path}: {status}");
    }

    // What the app asks for under the same address: the bundle, from the gateway.
    let bundle =
        |origin: &str| web.get(format!("{origin}{handle}")).header(ACCEPT, "application/vnd.bulla.bundle").send();
    let (ours, theirs) = (bundle(&here).await?, bundle(&there).await?);
    ensure!(theirs.headers()["content-type"] == "application/vnd.bulla.bundle", "{:?}", theirs.headers());
    let kept = |answer: &reqwest::Response| answer.headers().get("cache-control").cloned();
    ensure!(kept(&ours) == kept(&theirs) && kept(&ours).is_some(), "{:?}", theirs.headers());
    let theirs = theirs.bytes().await?;
    ensure!(ours.bytes().await? == theirs && theirs.len() > 1_000, "{} bytes", theirs.len());

    // What an auditor says of it; and of one that was changed.
    let verify = || async {
        let mut verify = Command::new(program("bulla")?);
        run(verify.args(["app", "verify", &format!("{there}{handle}"), "--app"]).arg(&app)).await
    };
    let verified = verify().await?;
    ensure!(verified.code == Some(0) && verified.out.contains("✓ 7 files"), "{verified:?}");
    std::fs::write(exported.join("site/assets/app-1.js"), "'another app'")?;
    let changed = verify().await?;
    ensure!(changed.code == Some(1) && changed.out.contains("✗ assets/app-1.js is another file"), "{changed:?}");

    // A customer in a terminal comes through the web server, too.
    let link = parts.ready.link.replace(&here, &there);
    let mut customer = parts.customer_of(&link, "Anna")?;
    customer.says("is anybody there?").await?;
    parts.receiver.message("what she wrote", |m| m["text"]["body"] == "is anybody there?").await?;
    server.kill();
    Ok(())
}
