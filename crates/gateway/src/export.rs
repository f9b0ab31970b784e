//! The app as files for a web server that is not the gateway, with what that server has to be told.
//!
//! A business may have a web server on its origin already. It then serves the app's files itself, and hands to the gateway only what changes: the
//! signed bundle, which an app asks for under the same address as a person asks for the page. Both are told apart by what is accepted, and every file
//! has to come with the headers that the gateway would send: `bulla app verify` looks at these too.

use std::path::Path;

use axum::http::header::CONTENT_SECURITY_POLICY;
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
        let site = std::path::absolute(to.join(SITE)).map_err(cannot(to))?;
        let text = nginx(&site, how)?;
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
        std::fs::write(&conf, text).map_err(cannot(&conf))?;
        Ok(count)
    }
}

/// A value between quotes, if it can be one: nginx knows no way to write a dollar sign in some of its values.
fn quoted(value: &str) -> Result<String, AppError> {
    if value.chars().any(|c| matches!(c, '"' | '\\' | '$') || c.is_control()) {
        return Err(AppError::Unquotable(value.to_owned()));
    }
    Ok(format!("\"{value}\""))
}

fn nginx(site: &Path, how: &Exported) -> Result<String, AppError> {
    let root = site.to_str().ok_or_else(|| AppError::Unquotable(site.to_string_lossy().into_owned()))?;
    let mut types = String::new();
    for (end, kind) in app::KINDS {
        let bare = kind.split_once(';').map_or(kind, |(bare, _)| bare);
        types.push_str(&format!("        {bare} {end};\n"));
    }
    let policy = app::policy(&how.relay, &how.embed);
    let mut headers = String::new();
    for (name, value) in app::WITH_EVERY_FILE.iter().map(|(n, v)| (n, *v)).chain([(&CONTENT_SECURITY_POLICY, &*policy)])
    {
        headers.push_str(&format!("    add_header {name} {} always;\n", quoted(value)?));
    }
    Ok(format!(
        r#"# The customer's app. To be included inside of `http {{ … }}`; add `listen`, `server_name` and the certificate to the server below.
map $http_accept $bulla_wants_bundle {{ default 0; "~*{bundle}" 1; }}
map $uri $bulla_cached {{ default {again}; "~^/assets/" {ever}; }}
map $uri $bulla_shared {{ default ""; "/{widget}" cross-origin; }}
server {{
    # listen 443 ssl;
    # server_name shop.example;
    root {root};
    types {{
{types}    }}
    charset utf-8;
    charset_types text/javascript text/css text/plain;
    # Requests say who looks at which business: none is written down.
    access_log off;
    gzip on;
    gzip_vary on;
    gzip_types text/javascript text/css application/wasm image/svg+xml application/manifest+json text/plain;
    # With nginx's Brotli module the compressed files beside these are used, which are smaller: `brotli_static on;`
{headers}    add_header cache-control $bulla_cached always;
    add_header cross-origin-resource-policy $bulla_shared always;
    add_header vary "accept" always;
    location = / {{ try_files /index.html =404; }}
    location ~ ^/@[^/]+$ {{
        error_page 418 = @bulla_gateway;
        if ($bulla_wants_bundle) {{ return 418; }}
        try_files /index.html =404;
    }}
    location ~ \.br$ {{ return 404; }}
    location @bulla_gateway {{
        proxy_pass {gateway};
        proxy_hide_header vary;
        # The bundle says by itself who made it and how long it is to be kept; the page's headers are not its own.
        add_header vary "accept" always;
    }}
}}
"#,
        bundle = BUNDLE.replace('.', "\\."),
        again = quoted(app::ASK_AGAIN)?,
        ever = quoted(app::FOR_EVER)?,
        widget = app::WIDGET,
        root = quoted(root)?,
        gateway = how.gateway.origin().ascii_serialization(),
    ))
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
    fn what_nginx_could_not_be_told_is_refused() {
        let how = Exported {
            relay: "wss://relay.example/v1/ws".to_owned(),
            gateway: Url::parse("http://10.0.0.2:8471").unwrap(),
            embed: Vec::new(),
        };
        assert!(nginx(Path::new("/srv/our shop/site"), &how).unwrap().contains("root \"/srv/our shop/site\";"));
        for folder in ["/srv/a\"; } evil", "/srv/$uri", "/srv/a\nb", "/srv/a\\b"] {
            let refused = nginx(Path::new(folder), &how);
            assert!(matches!(refused, Err(AppError::Unquotable(which)) if which == folder), "{folder}");
        }
    }
}
