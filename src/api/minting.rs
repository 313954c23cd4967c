//! `Idempotency-Key` on what makes keys and tokens: the same request is carried out once, and answered again without the
//! secret.

use axum::http::{HeaderMap, HeaderValue};

use super::Api;
use super::door::Caller;
use crate::control::mints::{Attempt, Begun, Wanted};
use crate::error::{Error, ErrorKind};

/// What to do for a request of a caller who may make what it asks for; `None` without such a header.
///
/// * `what` — is made, such as `key`
/// * `body` — all that tells one request from another
///
/// # Errors
///
/// 400 for a key that is empty, too long, or was used for another request; 503 while the other one goes on.
pub async fn begin(
    api: &Api,
    caller: &Caller,
    what: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Option<Begun>, Error> {
    let Some(key) = headers.get("idempotency-key").map(HeaderValue::as_bytes) else {
        return Ok(None);
    };
    let actor = format!("{}:{}", caller.principal.kind.name(), caller.principal.id);
    let wanted = Wanted {
        org: &caller.org,
        actor: &actor,
        what,
        key,
        body,
    };
    api.inner.control.begin_mint(wanted).await.map(Some)
}

/// Lets the next one try when nothing was made.
pub async fn failed(api: &Api, attempt: Option<&Attempt>, error: &Error) {
    // What may or may not be there is looked for by whoever comes next.
    if let Some(attempt) = attempt
        && error.kind != ErrorKind::Unknown
    {
        api.inner.control.abandon_mint(attempt).await;
    }
}

/// The answer when what was made before is there no more.
pub fn deleted(what: &str) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("the {what} that was made with this Idempotency-Key was deleted; use a new one"),
    )
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::Request;
    use http_body_util::BodyExt;
    use serde_json::{Value as Json, json};
    use tower::ServiceExt;

    use crate::api::router;
    use crate::api::tests::{KEY, api, app};
    use crate::model::OrgId;

    async fn ask(app: &Router, bearer: &str, key: Option<&str>, request: &str, body: &Json) -> (u16, Json) {
        let (method, path) = request.split_once(' ').expect("method and path");
        let mut built = Request::builder().method(method).uri(path);
        built = built.header("authorization", format!("Bearer {bearer}"));
        if let Some(key) = key {
            built = built.header("idempotency-key", key);
        }
        let request = built.body(Body::from(body.to_string())).expect("valid");
        let response = app.clone().oneshot(request).await.expect("infallible");
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.expect("whole").to_bytes();
        (status, serde_json::from_slice(&body).expect("JSON"))
    }

    fn wanted(description: &str) -> Json {
        json!({"description": description, "actions": ["keys:*", "documents:search"], "collections": ["*"]})
    }

    async fn count(app: &Router) -> usize {
        let (_, listed) = ask(app, KEY, None, "GET /keys", &json!({})).await;
        listed["keys"].as_array().expect("a list").len()
    }

    #[tokio::test]
    async fn a_key_is_made_once_and_shown_once() {
        let app = app().await;
        let make = async |bearer: &str, key, what: &str| ask(&app, bearer, key, "POST /keys", &wanted(what)).await;
        let (status, first) = make(KEY, Some("k"), "a").await;
        assert_eq!(status, 201, "{first}");
        let value = first["value"].as_str().expect("shown once").to_owned();
        let (status, again) = make(KEY, Some("k"), "a").await;
        assert_eq!(
            (status, &again["id"], &again["value"]),
            (201, &first["id"], &Json::Null)
        );
        assert_eq!(again["value_prefix"], first["value_prefix"]);
        let (status, other) = make(KEY, Some("k"), "b").await;
        assert_eq!(status, 400, "{other}");
        assert_eq!(make(KEY, Some(""), "a").await.0, 400);
        assert_eq!(count(&app).await, 1);
        // The same text of another credential is another key; who may not make keys learns nothing by it.
        let (status, own) = make(&value, Some("k"), "a").await;
        assert_eq!(status, 201, "{own}");
        assert!(own["value"].is_string() && own["id"] != first["id"], "{own}");
        let wider = json!({"description": "", "actions": ["*"], "collections": ["*"]});
        assert_eq!(ask(&app, &value, Some("wide"), "POST /keys", &wider).await.0, 401);
        // Without the header each request makes one.
        assert_ne!(make(KEY, None, "a").await.1["id"], make(KEY, None, "a").await.1["id"]);
        let id = first["id"].as_u64().expect("a number");
        assert_eq!(
            ask(&app, KEY, None, &format!("DELETE /keys/{id}"), &json!({})).await.0,
            200
        );
        assert_eq!(make(KEY, Some("k"), "a").await.0, 409);
        // What was refused may be tried again.
        let unknown = json!({"description": "", "actions": ["no:action"], "collections": ["*"]});
        assert_eq!(ask(&app, KEY, Some("n"), "POST /keys", &unknown).await.0, 400);
        assert_eq!(make(KEY, Some("n"), "a").await.0, 201);
    }

    #[tokio::test]
    async fn of_many_requests_at_once_one_makes_the_key() {
        let app = app().await;
        let body = wanted("a");
        let all = (0..8).map(|_| ask(&app, KEY, Some("k"), "POST /keys", &body));
        let answers = futures::future::join_all(all).await;
        assert!(
            answers
                .iter()
                .all(|(status, answer)| *status == 201 && answer["id"] == 1),
            "{answers:?}"
        );
        let shown = answers.iter().filter(|(_, answer)| answer["value"].is_string());
        assert_eq!((shown.count(), count(&app).await), (1, 1));
    }

    #[tokio::test]
    async fn what_a_crash_left_is_found() {
        let api = api().await;
        let (app, control) = (router(api.clone()), api.inner.control.clone());
        let (_, made) = ask(&app, KEY, None, "POST /keys", &wanted("a")).await;
        assert_eq!(made["id"], 1);
        let org = OrgId::default_org();
        let mut new = crate::control::keys::NewKey {
            description: "left".into(),
            actions: vec!["documents:search".into()],
            collections: vec!["*".into()],
            value: None,
            expires_at: crate::control::keys::NEVER,
            autodelete: false,
            limited: Default::default(),
            created_by: String::new(),
            attempt: Some("before".into()),
        };
        let left = control.create_key(&org, new.clone()).await.expect("made");
        assert_eq!(
            control.key_of_attempt(&org, "before").await.expect("read"),
            Some(left.id)
        );
        assert_eq!(control.key_of_attempt(&org, "other").await.expect("read"), None);
        control.delete_key(&org, left.id).await.expect("deleted");
        assert_eq!(control.key_of_attempt(&org, "before").await.expect("read"), None);
        new.attempt = None;
        control.create_key(&org, new).await.expect("made");
        assert_eq!(control.key_of_attempt(&org, "before").await.expect("read"), None);
    }

    #[tokio::test]
    async fn a_platform_token_is_made_once_and_shown_once() {
        let app = app().await;
        let user = json!({"username": "ana", "email": "ana@x.test", "password": "correct horse"});
        assert_eq!(ask(&app, KEY, None, "POST /v1/users", &user).await.0, 200);
        let body = json!({"user": "ana"});
        let make = async |path: &str, body: &Json| ask(&app, KEY, Some("k"), &format!("POST {path}"), body).await;
        let (status, first) = make("/v1/auth/api-tokens/ci", &body).await;
        assert_eq!(status, 200, "{first}");
        assert!(first["token"].is_string(), "{first}");
        let again = json!({"id": first["id"], "name": "ci"});
        assert_eq!(make("/v1/auth/api-tokens/ci", &body).await, (200, again.clone()));
        assert_eq!(
            make("/v2/auth/api-tokens/ci", &body).await,
            (200, json!({"token": again}))
        );
        assert_eq!(make("/v1/auth/api-tokens/other", &body).await.0, 400);
        let (status, answer) = ask(&app, KEY, Some("l"), "POST /v1/auth/api-tokens/ci", &body).await;
        assert_eq!(status, 409, "the name is taken: {answer}");
        let token = first["token"].as_str().expect("shown once");
        let (status, _) = ask(&app, token, None, "DELETE /v1/auth/api-tokens/ci", &json!({})).await;
        assert_eq!(status, 200);
        assert_eq!(make("/v1/auth/api-tokens/ci", &body).await.0, 409);
        let both =
            futures::future::join_all((0..4).map(|_| ask(&app, KEY, Some("m"), "POST /v1/auth/api-tokens/new", &body)));
        let both = both.await;
        assert!(
            both.iter()
                .all(|(status, answer)| *status == 200 && answer["id"] == both[0].1["id"]),
            "{both:?}"
        );
        assert_eq!(both.iter().filter(|(_, answer)| answer["token"].is_string()).count(), 1);
    }
}
