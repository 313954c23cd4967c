//! What each command sends and prints.

use serde_json::{Value, json};

use super::support::server::API_KEY;
use super::{Seen, run, stderr, stdout, stub};

/// What a command sends and prints.
struct Case {
    args: &'static [&'static str],
    stdin: &'static str,
    line: &'static str,
    body: Value,
    answer: Value,
    prints: &'static str,
}

fn case(args: &'static [&'static str], line: &'static str, body: Value, answer: Value, prints: &'static str) -> Case {
    Case {
        args,
        stdin: "",
        line,
        body,
        answer,
        prints,
    }
}

/// The same of a command that sends no body.
fn asked(args: &'static [&'static str], line: &'static str, answer: Value, prints: &'static str) -> Case {
    case(args, line, Value::Null, answer, prints)
}

fn cases() -> Vec<Case> {
    let org =
        || json!({"id": "org_1", "name": "Acme", "slug": "acme", "type": "team", "plan_id": "free", "overages": false});
    let key = || {
        json!({"id": 3, "value_prefix": "k7Qm", "description": "shop", "actions": ["documents:search"],
               "collections": ["shop_*"], "expires_at": 64_723_363_199_i64, "autodelete": false})
    };
    let with_value = || {
        let mut key = key();
        key["value"] = json!("k7Qm_value");
        key
    };
    let seeded = |group: Option<&str>| {
        let seed = json!({"type": "database", "name": "products", "timestamp": "2026-01-31T12:00:00Z"});
        let mut body = json!({"name": "products-noon", "seed": seed});
        if let Some(group) = group {
            body["group"] = json!(group);
        }
        body
    };
    let made = || json!({"database": {"DbId": "7", "Hostname": "products-noon-acme.x", "Name": "products-noon"}});
    vec![
        case(
            &[
                "restore",
                "acme",
                "products",
                "--to",
                "products-noon",
                "--at",
                "2026-01-31T12:00:00Z",
            ],
            "POST /v1/organizations/acme/databases",
            seeded(None),
            made(),
            "name       products-noon\nid         7\nhost name  products-noon-acme.x\n",
        ),
        case(
            &[
                "restore",
                "acme",
                "products",
                "--to",
                "products-noon",
                "--at",
                "2026-01-31T12:00:00Z",
                "--group",
                "shop",
                "--json",
            ],
            "POST /v1/organizations/acme/databases",
            seeded(Some("shop")),
            json!({"database": 1}),
            "{\"database\":1}\n",
        ),
        case(
            &[
                "keys",
                "create",
                "--description",
                "shop",
                "--action",
                "documents:search",
                "--collection",
                "shop_*",
                "-q",
            ],
            "POST /keys",
            json!({"description": "shop", "actions": ["documents:search"], "collections": ["shop_*"]}),
            with_value(),
            "k7Qm_value\n",
        ),
        case(
            &[
                "keys",
                "create",
                "--description",
                "d",
                "--action",
                "documents:search,documents:get",
                "--action",
                "collections:*",
                "--collection",
                "a{1,2}",
                "--namespace",
                "b",
                "--autodelete",
                "--filter",
                "[\"a\",\"Eq\",1]",
                "--include-field",
                "x,y",
                "--exclude-field",
                "z",
                "--allow-ip",
                "10.0.0.0/8",
                "--queries-per-second",
                "5",
                "--writes-per-second",
                "2",
            ],
            "POST /keys",
            json!({"description": "d", "actions": ["documents:search", "documents:get", "collections:*"],
                   "collections": ["a{1,2}", "b"], "autodelete": true, "filter": ["a", "Eq", 1],
                   "include_fields": ["x", "y"], "exclude_fields": ["z"], "allowed_ips": ["10.0.0.0/8"],
                   "limits": {"queries_per_second": 5, "writes_per_second": 2}}),
            with_value(),
            "id           3\nkey          k7Qm_value\nprefix       k7Qm\ndescription  shop\n\
             actions      documents:search\nnamespaces   shop_*\nexpires      never\nautodelete   no\n",
        ),
        Case {
            stdin: "a-value-of-my-own-making\n",
            ..case(
                &[
                    "keys",
                    "create",
                    "--description",
                    "d",
                    "--action",
                    "*",
                    "--collection",
                    "*",
                    "--filter",
                    "a:=1",
                    "-q",
                    "--value-file",
                    "-",
                ],
                "POST /keys",
                json!({"description": "d", "actions": ["*"], "collections": ["*"], "filter": "a:=1",
                       "value": "a-value-of-my-own-making"}),
                with_value(),
                "k7Qm_value\n",
            )
        },
        asked(
            &["keys", "list"],
            "GET /keys",
            json!({"keys": [key()]}),
            "ID  PREFIX  ACTIONS           NAMESPACES  EXPIRES  DESCRIPTION\n\
             3   k7Qm    documents:search  shop_*      never    shop\n",
        ),
        asked(
            &["keys", "get", "3"],
            "GET /keys/3",
            key(),
            "id           3\nprefix       k7Qm\ndescription  shop\nactions      documents:search\n\
             namespaces   shop_*\nexpires      never\nautodelete   no\n",
        ),
        asked(
            &["keys", "delete", "3"],
            "DELETE /keys/3",
            json!({"id": 3}),
            "deleted key 3\n",
        ),
        asked(
            &["keys", "--json", "delete", "3"],
            "DELETE /keys/3",
            json!({"id": 3}),
            "{\"id\":3}\n",
        ),
        case(
            &["orgs", "create", "Acme", "--dry-run"],
            "POST /v1/organizations?dry_run=true",
            json!({"name": "Acme"}),
            json!({"org": org()}),
            "slug      acme\nname      Acme\nid        org_1\ntype      team\nplan      free\noverages  no\n",
        ),
        asked(
            &["orgs", "list"],
            "GET /v1/organizations",
            json!({"organizations": [org()]}),
            "SLUG  NAME  TYPE  PLAN\nacme  Acme  team  free\n",
        ),
        asked(
            &["orgs", "show", "acme"],
            "GET /v1/organizations/acme",
            json!({"organization": org()}),
            "slug      acme\nname      Acme\nid        org_1\ntype      team\nplan      free\noverages  no\n",
        ),
        asked(
            &["orgs", "delete", "acme"],
            "DELETE /v1/organizations/acme",
            json!({}),
            "deleted organization acme\n",
        ),
        asked(
            &["orgs", "members", "acme"],
            "GET /v1/organizations/acme/members",
            json!({"members": [{"username": "ana", "role": "owner", "email": "ana@example.test"}]}),
            "USER  ROLE   E-MAIL\nana   owner  ana@example.test\n",
        ),
        case(
            &["orgs", "add-member", "acme", "bob", "--role", "viewer"],
            "POST /v1/organizations/acme/members",
            json!({"username": "bob", "role": "viewer"}),
            json!({"member": "bob", "role": "viewer"}),
            "bob is viewer of acme\n",
        ),
        asked(
            &["orgs", "remove-member", "acme", "bob"],
            "DELETE /v1/organizations/acme/members/bob",
            json!({"member": "bob"}),
            "bob is no member of acme any more\n",
        ),
        case(
            &["orgs", "set-role", "acme", "bob", "admin"],
            "PATCH /v1/organizations/acme/members/bob",
            json!({"role": "admin"}),
            json!({"member": {"username": "bob", "role": "admin"}}),
            "bob is admin of acme\n",
        ),
        case(
            &["orgs", "invite", "acme", "c@example.test"],
            "POST /v1/organizations/acme/invites",
            json!({"email": "c@example.test", "role": "member"}),
            json!({"invited": {}}),
            "invited c@example.test to acme as member\n",
        ),
        case(
            &["tokens", "mint", "ci", "--user", "ana", "-q"],
            "POST /v1/auth/api-tokens/ci",
            json!({"user": "ana"}),
            json!({"id": "pk", "name": "ci", "token": "e.y.J"}),
            "e.y.J\n",
        ),
        case(
            &[
                "tokens",
                "mint",
                "ci",
                "--org",
                "acme",
                "--group",
                "g",
                "--scope",
                "read,db:create",
            ],
            "POST /v1/auth/api-tokens/ci",
            json!({"organization": "acme", "group": "g", "scopes": ["read", "db:create"]}),
            json!({"id": "pk", "name": "ci", "token": "e.y.J"}),
            "id     pk\nname   ci\ntoken  e.y.J\n",
        ),
        asked(
            &["tokens", "list"],
            "GET /v1/auth/api-tokens",
            json!({"tokens": [{"id": "pk", "name": "ci", "organization": "acme", "scopes": ["read"], "created_at": "2026-05-21"}]}),
            "ID  NAME  ORGANIZATION  GROUP  SCOPES  OWNER  CREATED\npk  ci    acme          -      read    -      2026-05-21\n",
        ),
        asked(
            &["tokens", "list", "--org", "acme"],
            "GET /v1/organizations/acme/api-tokens",
            json!({"tokens": []}),
            "ID  NAME  ORGANIZATION  GROUP  SCOPES  OWNER  CREATED\n",
        ),
        asked(
            &["tokens", "revoke", "ci"],
            "DELETE /v1/auth/api-tokens/ci",
            json!({"token": "ci"}),
            "revoked ci\n",
        ),
        asked(
            &["tokens", "revoke", "pk", "--org", "acme"],
            "DELETE /v1/organizations/acme/api-tokens/pk",
            json!({"token": "pk"}),
            "revoked pk\n",
        ),
        asked(
            &["tokens", "validate"],
            "GET /v1/auth/validate",
            json!({"exp": 1_893_456_000}),
            "expires  2030-01-01T00:00:00Z\n",
        ),
        asked(
            &["tokens", "db", "products", "--read-only", "--expiration", "2w"],
            "POST /v1/databases/products/auth/tokens?expiration=2w&authorization=read-only",
            json!({"jwt": "e.y.J"}),
            "e.y.J\n",
        ),
        asked(
            &["tokens", "group", "default", "--org", "acme"],
            "POST /v1/organizations/acme/groups/default/auth/tokens",
            json!({"jwt": "e.y.J"}),
            "e.y.J\n",
        ),
        asked(
            &["tokens", "rotate", "--db", "a/b", "--org", "acme"],
            "POST /v1/organizations/acme/databases/a%2Fb/auth/rotate",
            json!({}),
            "the tokens of a/b count no more\n",
        ),
        asked(
            &["tokens", "rotate", "--group", "default"],
            "POST /v1/groups/default/auth/rotate",
            json!({}),
            "the tokens of the group default count no more\n",
        ),
        asked(
            &["tokens", "rotate", "--sessions"],
            "POST /v1/auth/invalidate",
            json!({"ValidFrom": 1}),
            "your sessions have ended\n",
        ),
        Case {
            stdin: "correct horse\n",
            ..case(
                &[
                    "users",
                    "create",
                    "ana",
                    "--email",
                    "ana@example.test",
                    "--name",
                    "Ana",
                    "--password-file",
                    "-",
                ],
                "POST /v1/users",
                json!({"username": "ana", "email": "ana@example.test", "name": "Ana", "password": "correct horse"}),
                json!({"user": {"username": "ana", "name": "Ana", "email": "ana@example.test"}}),
                "username  ana\nname      Ana\ne-mail    ana@example.test\n",
            )
        },
        asked(
            &["users", "delete", "ana"],
            "DELETE /v1/users/ana",
            json!({}),
            "deleted user ana\n",
        ),
        Case {
            stdin: "battery staple\r\n",
            ..case(
                &["users", "password", "ana"],
                "PATCH /v1/users/ana",
                json!({"password": "battery staple"}),
                json!({}),
                "ana has a new password\n",
            )
        },
        asked(
            &["audit", "verify", "--org", "acme", "--day", "2026-01-31"],
            "GET /v1/organizations/acme/audit-logs/verify?day=2026-01-31",
            json!({"day": "2026-01-31", "intact": true, "files": 3, "lines": 40, "unsealed": 0, "problems": []}),
            "day             2026-01-31\nintact          yes\nfiles           3\nlines           40\nnot sealed yet  0\n",
        ),
        asked(
            &["audit", "verify"],
            "GET /v1/audit-logs/verify",
            json!({"day": "2026-01-31", "intact": true, "files": 0, "lines": 0, "unsealed": 0, "problems": []}),
            "day             2026-01-31\nintact          yes\nfiles           0\nlines           0\nnot sealed yet  0\n",
        ),
        asked(
            &["whoami"],
            "GET /v1/auth/whoami",
            json!({"kind": "bootstrap", "id": "bootstrap", "organization": "default"}),
            "kind          bootstrap\nid            bootstrap\norganization  default\n",
        ),
    ]
}

#[test]
fn every_command_is_one_request_and_a_readable_answer() {
    for Case {
        args,
        stdin,
        line,
        body,
        answer,
        prints,
    } in cases()
    {
        let (url, seen) = stub(200, &answer.to_string());
        let output = run(&url, Some(API_KEY), args, stdin);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        let expected = Seen {
            line: line.to_owned(),
            authorization: Some(format!("Bearer {API_KEY}")),
            org: None,
            body,
        };
        assert_eq!(seen.join().expect("asked"), expected, "{args:?}");
        assert_eq!(stdout(&output), prints, "{args:?}");
    }
}
