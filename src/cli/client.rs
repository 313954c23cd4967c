//! Commands that ask a running server: how it is reached, one request, its answer.
//!
//! # What stays true
//!
//! - The credential comes from a file or the environment, never from an argument, and is never printed.
//! - It is sent to the URL that was given and nowhere else: redirects are not followed, and plain HTTP beyond
//!   this machine has to be asked for.
//! - What a server sends is bounded, and stripped of what would control a terminal before it is shown.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Certificate, Method, Url, redirect};
use serde_json::Value as Json;

use super::{table, with_causes};

const ORG: HeaderName = HeaderName::from_static("x-shoal-org");
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(60);
/// The longest answer that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// The longest credential, as the server takes it, and the longest secret that a file may give, in bytes.
const SECRET_BYTES_MAX: usize = 8 * 1024;

/// Why a command failed; decides the exit status.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The command line or its files are wrong: 2, as for what the parser of arguments refuses.
    Usage(String),
    /// Everything else: 1.
    Failed(String),
    /// What was asked is not known, of a question whose answer decides between 0 and 1: 2.
    Unknown(String),
}

impl From<String> for Failure {
    fn from(sentence: String) -> Self {
        Failure::Failed(sentence)
    }
}

impl Failure {
    /// Prints the sentence.
    pub fn exit(self) -> ExitCode {
        let (sentence, status) = match self {
            Failure::Usage(sentence) => (sentence, 2),
            Failure::Failed(sentence) => (sentence, 1),
            Failure::Unknown(sentence) => (sentence, 2),
        };
        // There is nobody to tell when standard error is closed.
        let _ = writeln!(io::stderr(), "shoal: {sentence}");
        ExitCode::from(status)
    }
}

/// How the server is reached, and how its answer is shown.
#[derive(Args, Clone, Debug)]
pub struct Connection {
    /// Where the server is.
    #[arg(long, global = true, env = "SHOAL_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// A file whose first line is the key or token [default: SHOAL_API_KEY, then the file SHOAL_API_KEY_FILE].
    #[arg(long, global = true, value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    /// Print the server's answer as it came, JSON.
    #[arg(long, global = true)]
    json: bool,
    /// PEM file with certificates of authorities that are trusted besides the system's.
    #[arg(long, global = true, env = "SHOAL_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Send the key in plain text to a server that is not on this machine.
    #[arg(long, global = true, env = "SHOAL_ALLOW_PLAIN_HTTP")]
    allow_plain_http: bool,
}

/// In which organization.
#[derive(Args, Clone, Debug)]
pub struct InOrg {
    /// The slug of the organization [default: the credential's own; `default` for a bootstrap key].
    #[arg(long, global = true, env = "SHOAL_ORG", value_name = "SLUG")]
    pub org: Option<String>,
}

// The arguments of commands with subcommands. What would be said about these two would become the help of them all.
#[derive(Args, Debug)]
pub struct OnServer<C: Subcommand> {
    #[command(flatten)]
    pub connection: Connection,
    #[command(subcommand)]
    pub command: C,
}

#[derive(Args, Debug)]
pub struct OnOrg<C: Subcommand> {
    #[command(flatten)]
    pub connection: Connection,
    #[command(flatten)]
    pub org: InOrg,
    #[command(subcommand)]
    pub command: C,
}

/// What is asked.
#[derive(Debug)]
pub struct Request {
    method: Method,
    path: Vec<String>,
    query: Vec<(&'static str, String)>,
    body: Option<Json>,
    org: Option<String>,
    is_known: bool,
    timeout: Duration,
}

impl Request {
    /// * `path` — its segments, not encoded
    pub fn new<'a>(method: Method, path: impl IntoIterator<Item = &'a str>) -> Self {
        Self {
            method,
            path: path.into_iter().map(str::to_owned).collect(),
            query: Vec::new(),
            body: None,
            org: None,
            is_known: true,
            timeout: TIMEOUT,
        }
    }

    /// With this JSON as body.
    pub fn body(self, body: Json) -> Self {
        Self {
            body: Some(body),
            ..self
        }
    }

    /// With this query parameter, if there is a value.
    pub fn query(mut self, name: &'static str, value: Option<&str>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_owned())));
        self
    }

    /// Naming an organization in a header, which counts with bootstrap keys.
    pub fn naming(self, org: &InOrg) -> Self {
        Self {
            org: org.org.clone(),
            ..self
        }
    }

    /// With so much time for the answer.
    pub fn within(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Without a credential.
    pub fn unknown(self) -> Self {
        Self {
            is_known: false,
            ..self
        }
    }
}

/// What the server answered: a success.
#[derive(Debug)]
pub struct Answer {
    text: String,
    pub json: Json,
}

impl Connection {
    /// Sends one request.
    ///
    /// # Errors
    ///
    /// The server's sentence and status; or why it was not asked, or did not answer.
    pub fn send(&self, request: Request) -> Result<Answer, Failure> {
        let base = self.base()?;
        let url = join(&base, &request.path, &request.query)?;
        let credential = match request.is_known {
            true => Some(self.credential()?),
            false => None,
        };
        let mut builder = self
            .http(&base)?
            .request(request.method.clone(), url)
            .timeout(request.timeout);
        if let Some(credential) = &credential {
            builder = builder.header(AUTHORIZATION, bearer(credential)?);
        }
        if let Some(org) = &request.org {
            let value = HeaderValue::from_str(org);
            builder = builder.header(
                ORG,
                value.map_err(|_| usage("--org must be the slug of an organization"))?,
            );
        }
        if let Some(body) = &request.body {
            builder = builder
                .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
                .body(body.to_string());
        }
        let tokio = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| format!("threads cannot be started: {e}"))?;
        let exchanged = tokio.block_on(exchange(builder));
        let (status, text) = exchanged.map_err(|lost| lost.sentence(&base, &request.method))?;
        let json: Option<Json> = serde_json::from_str(&text).ok();
        if !(200..300).contains(&status) {
            let sentence = sentence(status, json.as_ref());
            // A server that repeats a key must not make us print it.
            return Err(Failure::Failed(match &credential {
                Some(credential) => sentence.replace(credential.as_str(), "…"),
                None => sentence,
            }));
        }
        let no_json = || format!("{base} answered {status} without JSON: is it a Shoal server?");
        Ok(Answer {
            json: json.ok_or_else(no_json)?,
            text,
        })
    }

    /// Prints an answer: as it came with `--json`, else what `readable` makes of it.
    pub fn print(&self, answer: &Answer, readable: impl FnOnce(&Json) -> String) -> Result<(), Failure> {
        let text = match self.json {
            true => answer.text.trim_end().to_owned(),
            false => readable(&answer.json),
        };
        print(&text)
    }

    /// Prints a secret that is shown this once: alone with `alone`, so that scripts can take it.
    pub fn print_secret(
        &self,
        answer: &Answer,
        field: &str,
        alone: bool,
        readable: impl FnOnce(&Json) -> String,
    ) -> Result<(), Failure> {
        let secret = answer.json[field].as_str();
        let missing = || Failure::Failed(format!("the server's answer lacks `{field}`"));
        let secret = secret.ok_or_else(missing)?;
        match alone {
            true => self.print(answer, |_| table::clean(secret)),
            false => {
                self.print(answer, readable)?;
                note("this value is shown only now: keep it");
                Ok(())
            }
        }
    }

    /// The URL that was given, checked.
    fn base(&self) -> Result<Url, Failure> {
        let url = Url::parse(&self.url).map_err(|e| usage(&format!("--url is no URL: {e}")))?;
        let names_a_user = !url.username().is_empty() || url.password().is_some();
        if !matches!(url.scheme(), "http" | "https") || url.host().is_none() {
            return Err(usage("--url must begin with http:// or https:// and name a server"));
        }
        if names_a_user || url.query().is_some() || url.fragment().is_some() {
            return Err(usage("--url must have no user, query or fragment"));
        }
        if url.scheme() == "http" && !is_loopback(&url) && !self.allow_plain_http {
            return Err(usage(
                "over http:// the key would cross the network in plain text: use https://, or give --allow-plain-http",
            ));
        }
        Ok(url)
    }

    fn http(&self, base: &Url) -> Result<reqwest::Client, Failure> {
        let mut builder = reqwest::Client::builder()
            .redirect(redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .user_agent(concat!("shoal/", env!("CARGO_PKG_VERSION")));
        if is_loopback(base) {
            builder = builder.no_proxy();
        }
        if let Some(path) = &self.ca_file {
            let unreadable = |e: &dyn std::fmt::Display| usage(&format!("{} cannot be used: {e}", path.display()));
            let pem = std::fs::read(path).map_err(|e| unreadable(&e))?;
            for certificate in Certificate::from_pem_bundle(&pem).map_err(|e| unreadable(&e))? {
                builder = builder.add_root_certificate(certificate);
            }
        }
        builder
            .build()
            .map_err(|e| Failure::Failed(format!("HTTP cannot be spoken: {}", with_causes(&e))))
    }

    fn credential(&self) -> Result<String, Failure> {
        let env = |name| {
            std::env::var(name)
                .ok()
                .filter(|value: &String| !value.trim().is_empty())
        };
        let text = match (&self.api_key_file, env("SHOAL_API_KEY"), env("SHOAL_API_KEY_FILE")) {
            (Some(path), _, _) => secret_of_file(path)?,
            (None, Some(key), _) => key,
            (None, None, Some(path)) => secret_of_file(Path::new(&path))?,
            (None, None, None) => {
                return Err(usage("no key is given: set SHOAL_API_KEY, or give --api-key-file"));
            }
        };
        let first = text.lines().map(str::trim).find(|line| !line.is_empty());
        Ok(first.ok_or_else(|| usage("the key's file is empty"))?.to_owned())
    }
}

/// A mistake in how the command was called.
pub fn usage(sentence: &str) -> Failure {
    Failure::Usage(sentence.to_owned())
}

/// Prints to standard output. A reader that went away, such as `head`, is no failure.
pub fn print(text: &str) -> Result<(), Failure> {
    match writeln!(io::stdout(), "{text}") {
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(Failure::Failed(format!("output failed: {e}"))),
        _ => Ok(()),
    }
}

/// Says something beside the answer, where scripts do not take it for the answer.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// The text of a file, or of standard input for `-`; for secrets, which no argument may carry.
pub fn secret_of_file(path: &Path) -> Result<String, Failure> {
    let is_stdin = path == Path::new("-");
    let name = if is_stdin {
        "standard input".into()
    } else {
        path.display().to_string()
    };
    if is_stdin && io::stdin().is_terminal() {
        return Err(usage(
            "the secret would be shown while it is typed: pipe it in, or name a file that has it",
        ));
    }
    let unreadable = |e: io::Error| usage(&format!("{name} cannot be read: {e}"));
    let mut bytes = Vec::new();
    let limit = SECRET_BYTES_MAX as u64 + 1;
    match is_stdin {
        true => io::stdin().take(limit).read_to_end(&mut bytes),
        false => File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    }
    .map_err(unreadable)?;
    if bytes.len() > SECRET_BYTES_MAX {
        return Err(usage(&format!(
            "{name} has more than {SECRET_BYTES_MAX} bytes: it is no secret of ours"
        )));
    }
    String::from_utf8(bytes).map_err(|_| usage(&format!("{name} is no UTF-8 text")))
}

/// The password in a file, or on standard input for `-`, without the line's end.
pub fn password_of_file(path: &Path) -> Result<String, Failure> {
    let text = secret_of_file(path)?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    match text.is_empty() {
        true => Err(usage("the password is empty")),
        false => Ok(text.to_owned()),
    }
}

fn bearer(credential: &str) -> Result<HeaderValue, Failure> {
    if credential.len() > SECRET_BYTES_MAX {
        return Err(usage(&format!("the key has more than {SECRET_BYTES_MAX} bytes")));
    }
    let mut value = HeaderValue::from_str(&format!("Bearer {credential}"))
        .map_err(|_| usage("the key has characters that no key has"))?;
    value.set_sensitive(true);
    Ok(value)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The base with these segments and parameters.
fn join(base: &Url, path: &[String], query: &[(&'static str, String)]) -> Result<Url, Failure> {
    // URLs have no way to write these as names: they would ask for something else.
    if let Some(odd) = path.iter().find(|s| matches!(s.as_str(), "" | "." | "..")) {
        return Err(usage(&format!("{odd:?} is no name")));
    }
    let mut url = base.clone();
    match url.path_segments_mut() {
        Ok(mut segments) => {
            segments.pop_if_empty().extend(path);
        }
        Err(()) => return Err(usage("--url must begin with http:// or https://")),
    }
    if !query.is_empty() {
        url.query_pairs_mut().extend_pairs(query);
    }
    Ok(url)
}

/// Why there is no answer.
enum Lost {
    Http(reqwest::Error),
    TooLong,
}

impl Lost {
    fn sentence(self, base: &Url, method: &Method) -> String {
        let (why, is_unsent) = match self {
            Lost::Http(e) if e.is_connect() => (with_causes(&e.without_url()), true),
            Lost::Http(e) => (with_causes(&e.without_url()), false),
            Lost::TooLong => (format!("the answer has more than {ANSWER_BYTES_MAX} bytes"), false),
        };
        let is_safe = method == Method::GET || is_unsent;
        let doubt = if is_safe {
            ""
        } else {
            "; the change may have been made all the same"
        };
        format!("{base} gave no answer: {}{doubt}", table::clean(&why))
    }
}

/// The status and text of the answer.
async fn exchange(request: reqwest::RequestBuilder) -> Result<(u16, String), Lost> {
    let mut response = request.send().await.map_err(Lost::Http)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Lost::Http)? {
        if bytes.len() + chunk.len() > ANSWER_BYTES_MAX {
            return Err(Lost::TooLong);
        }
        bytes.extend_from_slice(&chunk);
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    Ok((response.status().as_u16(), text))
}

/// What the server said of a failure, in the words of whichever dialect it speaks on this route.
fn sentence(status: u16, body: Option<&Json>) -> String {
    let said = body.and_then(|body| {
        let fields = ["error", "message"].iter().map(|field| &body[*field]);
        fields.filter_map(Json::as_str).find(|text| !text.is_empty())
    });
    match said {
        Some(said) => format!("{} ({status})", table::clean(said)),
        None if (300..400).contains(&status) => {
            format!(
                "the server redirects ({status}), which is not followed with a key: give its final address as --url"
            )
        }
        None => format!("the server answered {status} without a reason: is it a Shoal server?"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn connection(url: &str) -> Connection {
        Connection {
            url: url.into(),
            api_key_file: None,
            json: false,
            ca_file: None,
            allow_plain_http: false,
        }
    }

    #[test]
    fn keys_do_not_leave_the_machine_in_plain_text() {
        for (url, ok) in [
            ("http://127.0.0.1:8080", true),
            ("http://127.9.9.9", true),
            ("http://[::1]:8080/base/", true),
            ("http://localhost:1", true),
            ("https://shoal.example", true),
            ("http://shoal.example", false),
            ("http://localhost.example", false),
            ("http://10.0.0.1", false),
            ("https://user:pass@shoal.example", false),
            ("https://shoal.example/?x=1", false),
            ("https://shoal.example/#x", false),
            ("ftp://127.0.0.1", false),
            ("127.0.0.1:8080", false),
            ("", false),
        ] {
            let outcome = connection(url).base();
            assert_eq!(outcome.is_ok(), ok, "{url}");
            assert!(ok || matches!(outcome, Err(Failure::Usage(_))), "{url}");
        }
        let allowed = Connection {
            allow_plain_http: true,
            ..connection("http://shoal.example")
        };
        assert!(allowed.base().is_ok());
    }

    #[test]
    fn names_cannot_change_what_is_asked() {
        let joined = |base: &str, path: &[&str]| {
            let base = Url::parse(base).expect("a URL");
            let path: Vec<String> = path.iter().map(|s| (*s).to_owned()).collect();
            join(&base, &path, &[]).map(String::from)
        };
        for (base, path, url) in [
            ("http://h", &["keys", "3"][..], "http://h/keys/3"),
            ("http://h/base/", &["keys"], "http://h/base/keys"),
            ("http://h", &["v1", "a/b"], "http://h/v1/a%2Fb"),
            ("http://h", &["a?b#c"], "http://h/a%3Fb%23c"),
            ("http://h", &["c@example.test"], "http://h/c@example.test"),
            ("http://h", &["%2e%2e"], "http://h/%252e%252e"),
            ("http://h", &["é "], "http://h/%C3%A9%20"),
        ] {
            assert_eq!(joined(base, path), Ok(url.to_owned()));
        }
        for odd in ["", ".", ".."] {
            assert!(
                matches!(joined("http://h", &["v1", odd]), Err(Failure::Usage(_))),
                "{odd:?}"
            );
        }
        let base = Url::parse("http://h").expect("a URL");
        let url = join(&base, &["t".into()], &[("expiration", "2w&x".into())]).expect("names");
        assert_eq!(url.as_str(), "http://h/t?expiration=2w%26x");
    }

    #[test]
    fn every_dialect_has_its_sentence() {
        for (status, body, expected) in [
            (
                404,
                json!({"error": "database not found: a"}),
                "database not found: a (404)",
            ),
            (401, json!({"message": "Forbidden"}), "Forbidden (401)"),
            (400, json!({"status": "error", "error": "no"}), "no (400)"),
            (400, json!({"error": "a\u{1b}[31mb\n"}), "a\u{fffd}[31mb\u{fffd} (400)"),
            (
                502,
                json!([]),
                "the server answered 502 without a reason: is it a Shoal server?",
            ),
            (
                500,
                json!({"error": ""}),
                "the server answered 500 without a reason: is it a Shoal server?",
            ),
        ] {
            assert_eq!(sentence(status, Some(&body)), expected);
        }
        assert!(sentence(301, None).contains("--url"));
    }

    #[test]
    fn a_secret_comes_from_a_file_whole_and_bounded() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("secret");
        for (text, password) in [
            ("hunter2", Some("hunter2")),
            ("hunter2\n", Some("hunter2")),
            ("hunter2\r\n", Some("hunter2")),
            (" two words \n", Some(" two words ")),
            ("", None),
            ("\n", None),
        ] {
            std::fs::write(&path, text).expect("written");
            assert_eq!(password_of_file(&path).ok().as_deref(), password, "{text:?}");
        }
        std::fs::write(&path, "\n first \nsecond\n").expect("written");
        let with_file = Connection {
            api_key_file: Some(path.clone()),
            ..connection("http://127.0.0.1")
        };
        assert_eq!(with_file.credential().ok().as_deref(), Some("first"));
        std::fs::write(&path, vec![b'a'; SECRET_BYTES_MAX + 1]).expect("written");
        assert!(matches!(secret_of_file(&path), Err(Failure::Usage(_))));
        assert!(matches!(
            secret_of_file(&dir.path().join("none")),
            Err(Failure::Usage(_))
        ));
        assert!(bearer("a\nb").is_err());
        let header = bearer("hunter2").expect("a header");
        assert!(!format!("{header:?}").contains("hunter2"));
    }
}
