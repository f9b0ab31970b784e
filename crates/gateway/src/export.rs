//! The app as files for a web server that is not the gateway, with what that server has to be told.
//!
//! A business may have a web server on its origin already. It then serves the app's files itself, and hands to the gateway only what changes: the
//! signed bundle, which an app asks for under the same address as a person asks for the page. Both are told apart by what is accepted, and every file
//! has to come with the headers that the gateway would send: `bulla app verify` looks at these too.

use std::fmt::Write as _;
use std::path::Path;

use axum::http::HeaderName;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY};
use url::Url;

use crate::app::{self, App, AppError};
use crate::public::BUNDLE;

/// Where the files are, in the folder of an export.
const SITE: &str = "site";

/// What nginx is told, in the folder of an export.
const NGINX: &str = "nginx.conf";

/// How an exported app is to be served.
#[derive(Debug, Clone)]
pub struct Exported {
    /// The relay of the business that is behind the links: the page may talk to it and to no other.
    pub relay: String,
    /// The gateway's public listener, as the web server reaches it: bundles come from there.
    pub gateway: Url,
    /// Sites whose pages may have the app in a frame.
    pub embed: Vec<url::Origin>,
}

impl App {
    /// Writes the files and a configuration into a folder, which must be new or empty. Says how many files.
    pub fn export(&self, to: &Path, how: &Exported) -> Result<usize, AppError> {
        let cannot = |path: &Path| {
            let path = path.to_owned();
            move |cause| AppError::Unwritable { path, cause }
        };
        std::fs::create_dir_all(to).map_err(cannot(to))?;
        if std::fs::read_dir(to).map_err(cannot(to))?.next().is_some() {
            return Err(AppError::NotEmpty(to.to_owned()));
        }
        let mut count = 0;
        for (name, bytes) in self.files() {
            let path = to.join(SITE).join(name);
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder).map_err(cannot(folder))?;
            }
            std::fs::write(&path, bytes).map_err(cannot(&path))?;
            count += 1;
        }
        let conf = to.join(NGINX);
        let site = std::path::absolute(to.join(SITE)).map_err(cannot(to))?;
        std::fs::write(&conf, nginx(&site, how)).map_err(cannot(&conf))?;
        Ok(count)
    }
}

/// A value between quotes. What is written here is made of URLs and constants, which have none and no dollar sign.
fn quoted(value: &str) -> String {
    let plain: String = value.chars().filter(|c| !matches!(c, '"' | '\\' | '$') && !c.is_control()).collect();
    format!("\"{plain}\"")
}

fn nginx(site: &Path, how: &Exported) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    let header = |name: &HeaderName, value: &str| format!("    add_header {name} {value} always;");
    line("# The customer's app. To be included inside of `http { … }`; add `listen`, `server_name` and the certificate to the server below.".into());
    line(format!("map $http_accept $bulla_wants_bundle {{ default 0; \"~*{}\" 1; }}", BUNDLE.replace('.', "\\.")));
    let (ever, again) = (quoted(app::FOR_EVER), quoted(app::ASK_AGAIN));
    line(format!("map $uri $bulla_cached {{ default {again}; \"~^/assets/\" {ever}; }}"));
    line(format!("map $uri $bulla_shared {{ default \"\"; \"/{}\" cross-origin; }}", app::WIDGET));
    line("server {".into());
    line("    # listen 443 ssl;".into());
    line("    # server_name shop.example;".into());
    line(format!("    root {};", quoted(&site.to_string_lossy())));
    line("    types {".into());
    let kinds = app::KINDS.map(|(end, kind)| (end, kind.split_once(';').map_or(kind, |(bare, _)| bare)));
    for (end, kind) in kinds {
        line(format!("        {kind} {end};"));
    }
    line("    }".into());
    line("    charset utf-8;".into());
    line("    charset_types text/javascript text/css text/plain;".into());
    line("    # Requests say who looks at which business: none is written down.".into());
    line("    access_log off;".into());
    line("    gzip on;".into());
    line("    gzip_vary on;".into());
    line(
        "    gzip_types text/javascript text/css application/wasm image/svg+xml application/manifest+json text/plain;"
            .into(),
    );
    line("    # With nginx's Brotli module the compressed files beside these are used, which are smaller: `brotli_static on;`".into());
    for (name, value) in app::WITH_EVERY_FILE {
        line(header(&name, &quoted(value)));
    }
    line(header(&CONTENT_SECURITY_POLICY, &quoted(&app::policy(&how.relay, &how.embed))));
    line(header(&CACHE_CONTROL, "$bulla_cached"));
    line(header(&HeaderName::from_static("cross-origin-resource-policy"), "$bulla_shared"));
    line("    add_header vary \"accept\" always;".into());
    line("    location = / { try_files /index.html =404; }".into());
    line("    location ~ ^/@[^/]+$ {".into());
    line("        error_page 418 = @bulla_gateway;".into());
    line("        if ($bulla_wants_bundle) { return 418; }".into());
    line("        try_files /index.html =404;".into());
    line("    }".into());
    line("    location ~ \\.br$ { return 404; }".into());
    line("    location @bulla_gateway {".into());
    line(format!("        proxy_pass {};", how.gateway.origin().ascii_serialization()));
    line("        proxy_hide_header vary;".into());
    line("        # The bundle says by itself who made it and how long it is to be kept; the page's headers are not its own.".into());
    line("        add_header vary \"accept\" always;".into());
    line("    }".into());
    line("}".into());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_goes_into_a_folder_of_its_own_and_holds_every_file() {
        let build = tempfile::tempdir().unwrap();
        std::fs::create_dir(build.path().join("assets")).unwrap();
        let names = ["index.html", "assets/a-1.js", "assets/a-1.js.br"];
        names.iter().for_each(|name| std::fs::write(build.path().join(name), name).unwrap());
        let app = App::from_folder(build.path()).unwrap();
        let to = tempfile::tempdir().unwrap();
        let how = Exported {
            relay: "wss://relay.example/v1/ws".to_owned(),
            gateway: Url::parse("http://10.0.0.2:8471").unwrap(),
            embed: Vec::new(),
        };
        assert_eq!(app.export(to.path(), &how).unwrap(), 3);
        for name in names {
            assert_eq!(std::fs::read(to.path().join(SITE).join(name)).unwrap(), name.as_bytes());
        }
        assert!(matches!(app.export(to.path(), &how), Err(AppError::NotEmpty(_))), "nothing is written over");
    }

    #[test]
    fn what_nginx_is_told_has_no_value_that_ends_its_quotes() {
        assert_eq!(quoted("a\"; } evil $uri\n"), "\"a; } evil uri\"");
    }
}
