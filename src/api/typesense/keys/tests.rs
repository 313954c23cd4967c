use super::*;

fn of(body: &Json) -> Result<NewKey, Error> {
    parse(body.to_string().as_bytes(), true)
}

fn minimal() -> Map<String, Json> {
    let minimal = json!({"description": "d", "actions": ["documents:search"], "collections": ["a"]});
    minimal.as_object().expect("an object").clone()
}

#[test]
fn a_key_has_typesenses_defaults() {
    let key = of(&minimal().into()).expect("valid");
    assert_eq!((key.expires_at, key.autodelete, key.value), (NEVER, false, None));
    let all = json!({"description": "", "actions": ["*"], "collections": []});
    assert_eq!(of(&all).expect("valid").collections, ["*"]);
    let echoed = json!({"description": "d", "actions": ["*"], "collections": ["*"], "id": 7, "value_prefix": "abcd",
        "key_prefix": "abcd", "value": null, "expires_at": null});
    assert!(of(&echoed).is_ok(), "what is shown may be sent");
}

#[test]
fn mistakes_are_answered_in_typesenses_words() {
    let with = |name: &str, value: Json| {
        let mut fields = minimal();
        fields.insert(name.into(), value);
        Json::Object(fields)
    };
    let without = |name: &str| {
        let mut fields = minimal();
        fields.remove(name);
        Json::Object(fields)
    };
    for (body, message) in [
        (json!([]), "Bad JSON."),
        (without("description"), "Could not find a `description` key."),
        (without("actions"), "Could not find a `actions` key."),
        (without("collections"), "Could not find a `collections` key."),
        (with("description", json!(1)), "Key description must be a string."),
        (with("value", json!(1)), "Key value must be a string."),
        (
            with("actions", json!([])),
            "Wrong format for `actions`. It should be an array of string.",
        ),
        (
            with("actions", json!("*")),
            "Wrong format for `actions`. It should be an array of string.",
        ),
        (
            with("actions", json!([1])),
            "Wrong format for `actions`. It should be an array of string.",
        ),
        (
            with("collections", json!("*")),
            "Wrong format for `collections`. It should be an array of string.",
        ),
        (
            with("collections", json!([null])),
            "Wrong format for `collections`. It should be an array of string.",
        ),
        (
            with("expires_at", json!(-1)),
            "Wrong format for `expires_at`. It should be an unsigned integer.",
        ),
        (
            with("expires_at", json!(1.5)),
            "Wrong format for `expires_at`. It should be an unsigned integer.",
        ),
        (
            with("expires_at", json!("1")),
            "Wrong format for `expires_at`. It should be an unsigned integer.",
        ),
        (
            with("autodelete", json!("true")),
            "Wrong format for `autodelete`. It should be a boolean.",
        ),
        (
            with("value", json!("short")),
            "Key values must have 24 to 512 characters.",
        ),
        (with("filtr", json!("a:1")), "Keys have no field `filtr`."),
        (
            with("limits", json!({"queries_per_second": 0})),
            "Wrong format for `limits`.",
        ),
        (with("limits", json!({"queries": 1})), "Wrong format for `limits`."),
        (
            with("allowed_ips", json!(["10.0.0.0/33"])),
            "Wrong format for `allowed_ips`.",
        ),
        (with("filters", json!("a:1")), "Wrong format for `filters`."),
        (with("filters", json!(["a", "Is", 1])), "Wrong format for `filters`"),
    ] {
        let error = of(&body).expect_err(&body.to_string());
        assert!(error.message.starts_with(message), "{body}: {}", error.message);
        assert_eq!(error.kind, ErrorKind::Invalid);
    }
    assert_eq!(parse(b"{", true).expect_err("broken").message, "Bad JSON.");
    let chosen = with("value", json!("abcdefghijklmnopqrstuvwx"));
    assert!(of(&chosen).is_ok());
    assert!(
        parse(chosen.to_string().as_bytes(), false).is_err(),
        "not where the server makes them"
    );
}

#[test]
fn only_search_only_keys_are_limited_to_rows() {
    let mut fields = minimal();
    fields.insert("filter".into(), json!("a:=1"));
    fields.insert("filters".into(), json!(["b", "Eq", 2]));
    fields.insert("include_fields".into(), json!(["a", "b"]));
    fields.insert("exclude_fields".into(), json!(["c"]));
    fields.insert("allowed_ips".into(), json!(["10.1.2.3/8", "::1", "::ffff:192.0.2.1"]));
    fields.insert("limits".into(), json!({"queries_per_second": 5}));
    let key = of(&fields.clone().into()).expect("valid");
    assert_eq!(key.limited.filters.len(), 2);
    let ips: Vec<String> = key.limited.allowed_ips.iter().map(ToString::to_string).collect();
    assert_eq!(ips, ["10.0.0.0/8", "::1/128", "192.0.2.1/32"]);
    assert_eq!(key.limited.limits.queries_per_second, Some(5));
    for actions in [
        json!(["*"]),
        json!(["documents:search", "documents:get"]),
        json!(["documents:*"]),
    ] {
        fields.insert("actions".into(), actions.clone());
        assert!(of(&fields.clone().into()).is_err(), "{actions}");
    }
}
