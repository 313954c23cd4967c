//! Signing in with a browser, as the command-line client of Turso asks for it: it opens a page here and waits on
//! a port of its own machine for the token.
//!
//! # What stays true
//!
//! - A token goes to a port of the user's own machine, or onto the page, and nowhere else.
//! - The pages have no scripts, are never kept, and cannot be framed. A form counts only if this deployment made
//!   it, for the same port and state, lately.

use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use crate::api::error::status;
use crate::api::handlers::read_body;
use crate::api::{Api, ClientIp};
use crate::auth::platform_token;
use crate::control::{Control, Hidden};
use crate::error::{Error, ErrorKind};

/// The largest form, in bytes.
const FORM_BYTES_MAX: u64 = 16 * 1024;
/// How long a form counts, in seconds.
const FORM_LASTS: u64 = 15 * 60;
/// The longest state, in bytes.
const STATE_BYTES_MAX: usize = 128;

/// What the client asks for.
#[derive(Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(default)]
pub struct PageOptions {
    /// The port on which the client waits, on the user's machine.
    port: Option<String>,
    /// false: the token is shown for copying.
    redirect: Option<String>,
    /// Kept as it is.
    r#type: Option<String>,
    /// Comes back with the token.
    state: Option<String>,
}

#[derive(Deserialize)]
struct Form {
    username: String,
    password: String,
    #[serde(default)]
    port: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    proof: String,
}

/// Where the token goes.
#[derive(Clone, Debug, PartialEq)]
struct Destination {
    /// `None`: onto the page.
    port: Option<u16>,
    state: String,
}

impl Destination {
    fn of(options: &PageOptions) -> Result<Self, Error> {
        let shown = options.redirect.as_deref() == Some("false");
        let port = options.port.as_deref().filter(|port| !port.is_empty() && !shown);
        Self::parse(port.unwrap_or_default(), options.state.as_deref().unwrap_or_default())
    }

    fn parse(port: &str, state: &str) -> Result<Self, Error> {
        let port = match port {
            "" => None,
            // `parse` alone would take a sign.
            text if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok().filter(|port| *port > 0),
            _ => None,
        }
        .map_or_else(
            || if port.is_empty() { Ok(None) } else { Err(()) },
            |port| Ok(Some(port)),
        )
        .map_err(|()| Error::invalid("port must be a number from 1 to 65535"))?;
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
        if state.len() > STATE_BYTES_MAX || !state.bytes().all(allowed) {
            return Err(Error::invalid(
                "state must have at most 128 of A-Z, a-z, 0-9, '-', '_', '.' and '~'",
            ));
        }
        Ok(Self {
            port,
            state: state.to_owned(),
        })
    }

    fn port_text(&self) -> String {
        self.port.map_or(String::new(), |port| port.to_string())
    }

    /// Shows that this deployment made the form.
    fn proof(&self, control: &Control, at: u64) -> String {
        let said = format!("{at}\0{}\0{}", self.port_text(), self.state);
        let mac = control.options().secrets.current().mac("sign-in form", said.as_bytes());
        let digits: String = mac.iter().map(|b| format!("{b:02x}")).collect();
        format!("{at}.{digits}")
    }

    fn is_proven(&self, control: &Control, proof: &str) -> bool {
        let Some(at) = proof.split_once('.').and_then(|(at, _)| at.parse::<u64>().ok()) else {
            return false;
        };
        let age = control.now().checked_sub(at);
        let expected = self.proof(control, at);
        age.is_some_and(|age| age <= FORM_LASTS) && bool::from(expected.as_bytes().ct_eq(proof.as_bytes()))
    }
}

fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn page(status: StatusCode, port: Option<u16>, body: &str) -> Response {
    let text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>Shoal: sign in</title>\
         <meta name=\"viewport\" content=\"width=device-width\"></head>\n<body>\n<h1>Shoal</h1>\n{body}\n</body>\n</html>\n"
    );
    let mut response = (status, text).into_response();
    // Browsers apply form-action to the redirect that answers the form, too.
    let redirect = port.map_or(String::new(), |port| format!(" http://127.0.0.1:{port}"));
    let policy = format!("default-src 'none'; form-action 'self'{redirect}; frame-ancestors 'none'; base-uri 'none'");
    let policy = HeaderValue::from_str(&policy).expect("digits and words are a header value");
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/html; charset=utf-8"),
    );
    headers.insert(header::CONTENT_SECURITY_POLICY, policy);
    harden(&mut response);
    response
}

fn harden(response: &mut Response) {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
}

/// The form; after a failure with its sentence.
fn form(control: &Control, to: &Destination, username: &str, failure: Option<&Error>) -> Response {
    let said = failure.map_or(String::new(), |e| {
        format!("<p role=\"alert\">{}</p>\n", escape(&e.message))
    });
    let where_to = match to.port {
        Some(_) => "The command-line client on this computer will be signed in.",
        None => "Your token will be shown for you to copy.",
    };
    let body = format!(
        "{said}<p>{where_to}</p>\n<form method=\"post\" action=\"/login\">\n\
         <p><label>Username <input name=\"username\" autocomplete=\"username\" required maxlength=\"254\" value=\"{username}\"></label></p>\n\
         <p><label>Password <input name=\"password\" type=\"password\" autocomplete=\"current-password\" required maxlength=\"1024\"></label></p>\n\
         <input type=\"hidden\" name=\"port\" value=\"{port}\">\n\
         <input type=\"hidden\" name=\"state\" value=\"{state}\">\n\
         <input type=\"hidden\" name=\"proof\" value=\"{proof}\">\n\
         <p><button>Sign in</button></p>\n</form>\n\
         <p>Accounts are made by the operator of this server.</p>",
        username = escape(username),
        port = to.port_text(),
        state = escape(&to.state),
        proof = escape(&to.proof(control, control.now())),
    );
    let status = failure.map_or(StatusCode::OK, |error| status(error.kind));
    let mut response = page(status, to.port, &body);
    if let Some(wait) = failure.and_then(|error| error.retry_after) {
        response
            .headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from(wait.as_secs().max(1)));
    }
    response
}

fn refuse(error: &Error) -> Response {
    page(
        status(error.kind),
        None,
        &format!("<p role=\"alert\">{}</p>", escape(&error.message)),
    )
}

/// `GET /`, `GET /login`, `GET /signup`
pub async fn show(
    State(api): State<Api>,
    options: Result<Query<PageOptions>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let options = options.map(|Query(options)| options);
    let options = options.map_err(|_| Error::invalid("the query string is not what a sign-in page takes"));
    match options.and_then(|options| Destination::of(&options)) {
        Ok(to) => form(&api.inner.control, &to, "", None),
        Err(error) => refuse(&error),
    }
}

/// `POST /login`
pub async fn submit(State(api): State<Api>, request: Request) -> Response {
    let ip = request.extensions().get::<ClientIp>().map(|client| client.0);
    let body = match read_body(&api, request, FORM_BYTES_MAX).await {
        Ok((_, body)) => body,
        Err(error) => return error.into_response(),
    };
    let fields = url::form_urlencoded::parse(&body.bytes);
    let fields: serde_json::Map<String, serde_json::Value> = fields
        .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
        .collect();
    let Ok(Form {
        username,
        password,
        port,
        state,
        proof,
    }) = serde_json::from_value(fields.into())
    else {
        return refuse(&Error::invalid("the form is incomplete; go back and fill it in"));
    };
    let to = match Destination::parse(&port, &state) {
        Ok(to) => to,
        Err(error) => return refuse(&error),
    };
    let control = &api.inner.control;
    if !to.is_proven(control, &proof) {
        let stale = Error::new(ErrorKind::Invalid, "this form is too old; sign in once more");
        return form(control, &to, &username, Some(&stale));
    }
    match control.sign_in(&username, Hidden::new(password), ip).await {
        Err(error) => form(control, &to, &username, Some(&error)),
        Ok(user) => {
            let (token, _) = platform_token::session(control, &user);
            match to.port {
                None => {
                    let shown = format!(
                        "<p>You are signed in. Your token counts for seven days:</p>\n<pre>{}</pre>",
                        escape(token.reveal())
                    );
                    page(StatusCode::OK, None, &shown)
                }
                Some(port) => {
                    // Both consist of characters that need no escapes.
                    let target = format!("http://127.0.0.1:{port}/?jwt={}&state={}", token.reveal(), to.state);
                    let target = HeaderValue::from_str(&target).expect("tokens and states are visible ASCII");
                    let mut response = (StatusCode::SEE_OTHER, [(header::LOCATION, target)]).into_response();
                    harden(&mut response);
                    response
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::testing;

    #[test]
    fn tokens_go_to_ports_of_this_machine_only() {
        let to = |port: &str, state: &str| Destination::parse(port, state).map(|to| (to.port, to.state)).ok();
        assert_eq!(to("8080", "a-b"), Some((Some(8080), "a-b".into())));
        assert_eq!(to("", ""), Some((None, String::new())));
        for bad in [
            "0",
            "65536",
            "-1",
            "+80",
            "80 ",
            "80@evil.test",
            "evil.test:80",
            "8080/x",
            "0x50",
            "\u{661}",
        ] {
            assert_eq!(to(bad, ""), None, "{bad}");
        }
        for bad in ["a b", "a&b", "\"", "<", "\r\n", "a#b", "a%20", &"a".repeat(129)] {
            assert_eq!(to("80", bad), None, "{bad:?}");
        }
        let asked = |port: &str, redirect: &str| PageOptions {
            port: Some(port.into()),
            redirect: Some(redirect.into()),
            ..PageOptions::default()
        };
        let port = |options: &PageOptions| Destination::of(options).map(|to| to.port).ok();
        assert_eq!(port(&asked("80", "true")), Some(Some(80)));
        assert_eq!(port(&asked("80", "false")), Some(None));
        assert_eq!(port(&PageOptions::default()), Some(None));
    }

    #[tokio::test(start_paused = true)]
    async fn forms_are_ours_and_recent() {
        let control = testing::control_with_tokio_clock(7);
        let to = Destination::parse("80", "s").expect("valid");
        let proof = to.proof(&control, control.now());
        assert!(to.is_proven(&control, &proof));
        for bad in ["", ".", "0.", &proof[1..], &format!("{proof}0"), &format!("9{proof}")] {
            assert!(!to.is_proven(&control, bad), "{bad}");
        }
        for other in [("81", "s"), ("80", "t"), ("", "s")] {
            assert!(
                !Destination::parse(other.0, other.1)
                    .expect("valid")
                    .is_proven(&control, &proof)
            );
        }
        tokio::time::advance(std::time::Duration::from_secs(FORM_LASTS)).await;
        assert!(to.is_proven(&control, &proof));
        tokio::time::advance(std::time::Duration::from_secs(1)).await;
        assert!(!to.is_proven(&control, &proof));
    }

    #[test]
    fn nothing_breaks_out_of_a_page() {
        assert_eq!(escape("<a href=\"x\">'&"), "&lt;a href=&quot;x&quot;&gt;&#39;&amp;");
    }
}
