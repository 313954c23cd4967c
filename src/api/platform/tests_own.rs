//! Plans, external issuers, and what is the caller's own organization's, through the whole router.

use serde_json::json;

use super::tests_people::{ok, refused, user};
use crate::api::tests::app;

#[tokio::test]
async fn plans_and_issuers_are_kept() {
    let app = app().await;
    let ana = user(&app, "ana").await;
    ok(&app, &ana, "POST /v1/organizations", r#"{"name":"acme"}"#).await;
    let plan =
        json!({"subscription": {"name": "unlimited", "plan": "unlimited", "timeline": "monthly", "overages": false}});
    for path in ["/v1/subscription", "/v1/organizations/acme/subscription"] {
        assert_eq!(ok(&app, &ana, &format!("GET {path}"), "").await, plan);
        refused(&app, &ana, &format!("POST {path}"), r#"{"plan":"gold"}"#, 400).await;
    }
    let changed = ok(
        &app,
        &ana,
        "POST /v1/subscription",
        r#"{"plan":"unlimited","overages":true}"#,
    )
    .await;
    assert_eq!(changed["subscription"]["overages"], true);
    for path in ["/v1/plans", "/v1/organizations/acme/plans"] {
        assert_eq!(
            ok(&app, &ana, &format!("GET {path}"), "").await["plans"][0]["name"],
            "unlimited"
        );
    }
    assert_eq!(
        ok(&app, &ana, "GET /v1/organizations/acme/invoices?type=all", "").await,
        json!({"invoices": []})
    );
    let base = "/v2/organizations/acme/jwks";
    let issuer = r#"{"jwks_url":"https://issuer.example.test/jwks.json"}"#;
    ok(&app, &ana, &format!("PUT {base}/clerk"), issuer).await;
    refused(
        &app,
        &ana,
        &format!("PUT {base}/clerk"),
        r#"{"jwks_url":"http://169.254.169.254/"}"#,
        400,
    )
    .await;
    let expected = json!({"jwks": [{"jwks_name": "clerk", "jwks_url": "https://issuer.example.test/jwks.json"}]});
    assert_eq!(ok(&app, &ana, &format!("GET {base}"), "").await, expected);
    assert_eq!(ok(&app, &ana, &format!("GET {base}/clerk"), "").await, expected);
    ok(&app, &ana, &format!("DELETE {base}/clerk"), "").await;
    refused(&app, &ana, &format!("GET {base}/clerk"), "", 404).await;
    ok(&app, &ana, &format!("GET {base}-template"), "").await;
}

/// The paths of the time before organizations, which the command-line client still sends when none is selected.
#[tokio::test]
async fn without_an_organization_in_the_path_the_callers_own_is_meant() {
    let app = app().await;
    let ana = user(&app, "ana").await;
    let bob = user(&app, "bob").await;
    for (user, name) in [(&ana, "acme"), (&bob, "bolt")] {
        ok(&app, user, "POST /v1/organizations", &json!({"name": name}).to_string()).await;
    }
    ok(&app, &ana, "POST /v1/members", r#"{"username":"bob","role":"viewer"}"#).await;
    ok(&app, &ana, "PATCH /v1/members/bob", r#"{"role":"member"}"#).await;
    ok(&app, &ana, "POST /v1/invite", r#"{"email":"c@x.test"}"#).await;
    ok(
        &app,
        &ana,
        "PUT /v2/jwks/clerk",
        r#"{"jwks_url":"https://issuer.example.test/k"}"#,
    )
    .await;
    ok(&app, &ana, "POST /v1/auth/api-tokens/ci", r#"{"organization":"acme"}"#).await;
    for (version, rest) in [
        ("v1", "members"),
        ("v1", "members/bob"),
        ("v1", "invites"),
        ("v2", "invites"),
        ("v1", "audit-logs"),
        ("v1", "api-tokens"),
        ("v2", "jwks"),
        ("v2", "jwks/clerk"),
        ("v2", "jwks-template"),
        ("v2", "locations"),
    ] {
        let named = ok(&app, &ana, &format!("GET /{version}/organizations/acme/{rest}"), "").await;
        let own = ok(&app, &ana, &format!("GET /{version}/{rest}"), "").await;
        assert_eq!(own, named, "{rest}");
    }
    let members = ok(&app, &ana, "GET /v1/members", "").await;
    assert_eq!(members["members"].as_array().map(Vec::len), Some(2));
    // Bob is in two; the one that he owns is his own, and his role in the other one counts for nothing there.
    let members = ok(&app, &bob, "GET /v1/members", "").await;
    assert_eq!(members["members"][0]["username"], "bob", "{members}");
    assert_eq!(members["members"].as_array().map(Vec::len), Some(1));
    assert_eq!(ok(&app, &bob, "GET /v1/invites", "").await, json!({"invites": []}));
    refused(&app, &bob, "DELETE /v1/members/ana", "", 404).await;
    refused(&app, &bob, "DELETE /v1/invites/c@x.test", "", 404).await;
    // Whoever is in none has none.
    let eve = user(&app, "eve").await;
    for path in ["members", "invites", "audit-logs", "api-tokens"] {
        refused(&app, &eve, &format!("GET /v1/{path}"), "", 404).await;
    }
}
