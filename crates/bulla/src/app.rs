//! `bulla app`: the app as files for a web server, and whether a web server serves the app that was released.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use bulla_gateway::{App, Exported};
use sha2::{Digest as _, Sha256};
use url::Url;

/// The list of a build's files, as `sha256sum` prints it. Its own hash names the build.
const SUMS: &str = "SHA256SUMS.txt";

/// Bytes of that list, and of one file: far more than a build has.
const LONGEST_SUMS: usize = 64 << 10;
const LONGEST_FILE: usize = 16 << 20;

/// What the page may do, whatever else it says: without these a served page is not the one that was reviewed.
const POLICY: [&str; 3] =
    ["default-src 'none'", "script-src 'self' 'wasm-unsafe-eval'", "require-trusted-types-for 'script'"];

/// Who may have the page in a frame: nobody, or sites that are named.
const ANCESTORS: &str = "frame-ancestors ";

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Compares the app that a web server serves with its release.
    ///
    /// Fetches the list of files, then every file, and compares their hashes. The list's own hash names the build: with --manifest it must be that
    /// one, as it was printed when the app was built or released; with --app that of a build on this machine. What it shows is what this
    /// server gave to you, now. It could give somebody else something else: ask from where your customers ask.
    Verify(Verify),
    /// Writes the app as files for a web server that you have already, with what that server has to be told.
    ///
    /// The web server is then the business's own origin: it serves the files, and asks the gateway for the signed bundle behind a link alone. Whoever
    /// runs it could serve another app and read the chats; a content delivery network is such a one. Compare afterwards with `bulla app verify`.
    Export(Export),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Export {
    /// Where to write: a new or an empty folder.
    to: PathBuf,

    /// The build of the app (`cargo xtask app`).
    #[arg(long, value_name = "DIR", env = "BULLA_APP")]
    app: PathBuf,

    /// The relay that the gateway uses: wss://relay.example/v1/ws. The page may talk to it and to no other.
    #[arg(long, value_name = "URL", value_parser = crate::gateway::relay_url)]
    relay: String,

    /// The gateway's public listener, as the web server reaches it.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8471")]
    gateway: Url,

    /// A site whose pages may have the app in a frame, for the widget: `https://www.shop.example`. Can be given several times.
    #[arg(long, value_name = "ORIGIN", value_parser = crate::gateway::origin)]
    embed: Vec<url::Origin>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// Where the app is served: a link to a business, or its origin.
    url: Url,

    /// The build that it must be: 64 hexadecimal digits.
    #[arg(long, value_name = "SHA256")]
    manifest: Option<String>,

    /// A build on this machine, to compare with instead.
    #[arg(long, value_name = "DIR", conflicts_with = "manifest")]
    app: Option<PathBuf>,
}

pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Verify(args) => crate::runtime()?.block_on(verify(&args)),
        Command::Export(args) => export(args),
    }
}

fn export(args: Export) -> anyhow::Result<ExitCode> {
    let app = App::from_folder(&args.app)?;
    let how = Exported { relay: args.relay, gateway: args.gateway, embed: args.embed };
    let files = app.export(&args.to, &how)?;
    println!("{files} files in {}", args.to.join("site").display());
    println!("nginx     include {}; it says what else your server needs", args.to.join("nginx.conf").display());
    match std::fs::read(args.app.join(SUMS)) {
        Ok(sums) => println!("then      bulla app verify https://… --manifest {}", hash(&sums)),
        Err(_) => {
            println!("then      bulla app verify https://… (this build has no list of its files to compare with)")
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn verify(args: &Verify) -> anyhow::Result<ExitCode> {
    let expected = match (&args.manifest, &args.app) {
        (Some(hash), _) => Some(hash.to_ascii_lowercase()),
        (None, Some(folder)) => {
            let sums = folder.join(SUMS);
            Some(hash(&std::fs::read(&sums).with_context(|| format!("{} cannot be read", sums.display()))?))
        }
        (None, None) => None,
    };
    let web = Web::new()?;
    let sums = web.get(&args.url.join(&format!("/{SUMS}"))?, LONGEST_SUMS).await?.0;
    let build = hash(&sums);
    println!("build     {build}");
    let mut wrong = 0;
    if let Some(expected) = expected.filter(|expected| *expected != build) {
        println!("✗ it should be {expected}");
        wrong += 1;
    }
    let sums = String::from_utf8(sums).context("the list of files is no text")?;
    let (mut files, mut framed_by) = (0, BTreeSet::new());
    for line in sums.lines() {
        let (should, name) = line.split_once("  ").context("the list of files has a line that is none")?;
        // The page is what every link leads to; it has no address of its own.
        let path = if name == "index.html" { "/".to_owned() } else { format!("/{name}") };
        let (bytes, policy) = web.get(&args.url.join(&path)?, LONGEST_FILE).await?;
        files += 1;
        if hash(&bytes) != should {
            println!("✗ {name} is another file");
            wrong += 1;
        }
        let missing = POLICY.iter().find(|rule| !policy.split(';').any(|part| part.trim() == **rule));
        if let Some(rule) = missing {
            println!("✗ {name} comes without the rule \"{rule}\"");
            wrong += 1;
        }
        match framed(&policy) {
            Some(sites) => framed_by.extend(sites),
            None => {
                println!("✗ {name} may be put into a frame by anybody");
                wrong += 1;
            }
        }
    }
    if files == 0 {
        bail!("the list of files is empty");
    }
    if wrong > 0 {
        println!("{wrong} of {files} files and rules are not what they should be: do not write here");
        return Ok(ExitCode::FAILURE);
    }
    println!("✓ {files} files are those of this build, and come with its rules");
    if !framed_by.is_empty() {
        let sites: Vec<_> = framed_by.into_iter().collect();
        println!("  it may be in a frame on {}: is that the business's own site?", sites.join(", "));
    }
    if args.manifest.is_none() && args.app.is_none() {
        println!("  whether it is a released one, --manifest tells: the release names its hash");
    }
    Ok(ExitCode::SUCCESS)
}

/// The sites whose pages may have a page of this policy in a frame; `None` if anybody's may.
fn framed(policy: &str) -> Option<Vec<String>> {
    let sites = policy.split(';').find_map(|rule| rule.trim().strip_prefix(ANCESTORS))?;
    let named = |site: &str| {
        !site.contains('*') && Url::parse(site).is_ok_and(|url| url.origin().ascii_serialization() == site)
    };
    let sites: Vec<_> = sites.split_ascii_whitespace().filter(|site| *site != "'none'").map(str::to_owned).collect();
    sites.iter().all(|site| named(site)).then_some(sites)
}

struct Web(reqwest::Client);

impl Web {
    fn new() -> anyhow::Result<Self> {
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .timeout(std::time::Duration::from_secs(60))
            .build()?;
        Ok(Self(client))
    }

    /// A file, and the policy that came with it.
    async fn get(&self, url: &Url, longest: usize) -> anyhow::Result<(Vec<u8>, String)> {
        let said = || format!("{url} does not answer");
        // As a browser asks for a page: a link answers a program with the business's bundle.
        let request = self.0.get(url.clone()).header("accept", "text/html,*/*");
        let mut response = request.send().await.map_err(reqwest::Error::without_url).with_context(said)?;
        if !response.status().is_success() {
            bail!(
                "{url} answers {}: is the app served there, and by a version that lists its files?",
                response.status()
            );
        }
        let policy = response.headers().get("content-security-policy");
        let policy = policy.and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url).with_context(said)? {
            if body.len() + chunk.len() > longest {
                bail!("{url} is larger than anything of the app");
            }
            body.extend_from_slice(&chunk);
        }
        Ok((body, policy))
    }
}

fn hash(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_have_the_page_in_a_frame_is_nobody_or_named() {
        let none: Option<Vec<String>> = Some(Vec::new());
        assert_eq!(framed("default-src 'none'; frame-ancestors 'none'; x"), none);
        let sites = framed("frame-ancestors https://www.shop.example http://127.0.0.1:8000");
        assert_eq!(sites, Some(vec!["https://www.shop.example".to_owned(), "http://127.0.0.1:8000".to_owned()]));
        for anybody in [
            "default-src 'none'",
            "frame-ancestors *",
            "frame-ancestors https:",
            "frame-ancestors https://*.example",
            "frame-ancestors 'self'",
        ] {
            assert_eq!(framed(anybody), None, "{anybody}");
        }
    }
}
