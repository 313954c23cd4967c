//! What a request for a token of a database or group asks for.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value as Json;

use super::call::Fields;
use crate::api::door::Caller;
use crate::auth::CredentialKind;
use crate::auth::data_token::{self, Level, Minting};
use crate::control::{Action, ActionSet, Grant, Patterns};
use crate::error::{Error, ErrorKind, Result};

/// The most entries of `fine_grained_permissions`, and of a list in one.
const PERMISSIONS_MAX: usize = 64;

/// The query string.
#[derive(Deserialize, JsonSchema, Default)]
pub struct TokenOptions {
    /// `never`, or numbers with units such as `2w1d`: `w`, `d`, `h`, `m`, `s`.
    #[serde(default)]
    expiration: Option<String>,
    /// `full-access` (the default) or `read-only`.
    #[serde(default)]
    authorization: Option<String>,
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
pub struct Wish {
    pub level: Level,
    pub permissions: Option<Vec<String>>,
    /// Seconds from now.
    pub lifetime: Option<u64>,
}

impl Wish {
    /// Parses query string and body.
    ///
    /// # Errors
    ///
    /// 400 that names the field.
    pub fn parse(options: &TokenOptions, body: &Fields) -> Result<Self> {
        let lifetime = expiration(options.expiration.as_deref().unwrap_or_default())?;
        let level = match options.authorization.as_deref() {
            None | Some("") => Level::FullAccess,
            Some(word) => {
                let unknown = || Error::invalid("authorization must be full-access or read-only");
                Level::parse(word).ok_or_else(unknown)?
            }
        };
        let nested = body.object("permissions")?;
        if let Some(attach) = nested.as_ref().map(|p| p.object("read_attach")).transpose()?.flatten()
            && attach.list("databases")?.is_some_and(|names| !names.is_empty())
        {
            return Err(Error::invalid(
                "permissions.read_attach must name no databases: databases cannot be attached here",
            ));
        }
        let listed = match body.list("fine_grained_permissions")? {
            Some(listed) => Some(listed),
            None => match &nested {
                Some(nested) => nested.list("fine_grained_permissions")?,
                None => None,
            },
        };
        let permissions = listed.map(|listed| words(listed, level)).transpose()?;
        Ok(Self {
            level,
            permissions,
            lifetime,
        })
    }
}

/// The words of all entries, each once.
fn words(listed: &[Json], level: Level) -> Result<Vec<String>> {
    let wrong = || {
        Error::invalid(format!(
            "fine_grained_permissions must be a list of at most {PERMISSIONS_MAX} objects with t (null) and a (a list \
             of permissions)"
        ))
    };
    if listed.len() > PERMISSIONS_MAX {
        return Err(wrong());
    }
    let mut words: Vec<String> = Vec::new();
    for entry in listed {
        let entry = entry.as_object().ok_or_else(wrong)?;
        match entry.get("t") {
            None | Some(Json::Null) => {}
            Some(Json::Array(tables)) if tables.is_empty() => {}
            Some(_) => {
                return Err(Error::invalid(
                    "fine_grained_permissions must not name tables: a database has none here, leave t null",
                ));
            }
        }
        let allowed = entry.get("a").and_then(Json::as_array).ok_or_else(wrong)?;
        if allowed.len() > PERMISSIONS_MAX {
            return Err(wrong());
        }
        for word in allowed {
            let word = word.as_str().ok_or_else(wrong)?;
            let actions = data_token::permission(word).ok_or_else(|| {
                Error::invalid(
                    "fine_grained_permissions knows data_read, data_add, data_update, data_delete, schema_add, \
                     schema_update and schema_delete",
                )
            })?;
            if level == Level::ReadOnly && !actions.is_subset(Level::ReadOnly.actions()) {
                return Err(Error::invalid(
                    "a read-only token can have no permission but data_read; ask for full-access",
                ));
            }
            if !words.iter().any(|w| w == word) {
                words.push(word.to_owned());
            }
        }
    }
    Ok(words)
}

/// The seconds that `expiration` means; `None` for ever.
fn expiration(text: &str) -> Result<Option<u64>> {
    if matches!(text, "" | "never" | "none" | "default") {
        return Ok(None);
    }
    let wrong = || {
        Error::invalid(
            "expiration must be never, or numbers with the units w, d, h, m, s such as 2w or 1d12h, at least 1s",
        )
    };
    let mut nanoseconds: u128 = 0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, after) = rest.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let letters = after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let unit: u128 = match unit {
            "w" => 7 * 86_400 * 1_000_000_000,
            "d" => 86_400 * 1_000_000_000,
            "h" => 3600 * 1_000_000_000,
            "m" => 60 * 1_000_000_000,
            "s" => 1_000_000_000,
            "ms" => 1_000_000,
            "us" => 1000,
            "ns" => 1,
            _ => return Err(wrong()),
        };
        // 64 bits times 50 bits fit.
        nanoseconds = nanoseconds.checked_add(u128::from(number) * unit).ok_or_else(wrong)?;
        rest = after;
    }
    // 10,000 years: later ends are mistakes.
    let seconds = u64::try_from(nanoseconds / 1_000_000_000).map_err(|_| wrong())?;
    match (1..=315_576_000_000).contains(&seconds) {
        true => Ok(Some(seconds)),
        false => Err(wrong()),
    }
}

/// Fails when the token would allow what its maker may not do.
///
/// Scopes of the control plane say nothing of data: to one that covers no action on documents, the right to make
/// tokens is the right to make any for its group. And a session ends, but not the rights of its user, who could make
/// as well a token that stays.
pub fn check(caller: &Caller, minting: &Minting<'_>, namespaces: Patterns, group: uuid::Uuid) -> Result<()> {
    let principal = &caller.principal;
    if principal.kind == CredentialKind::Bootstrap {
        return Ok(());
    }
    let minted = Grant {
        group: Some(group),
        namespaces,
        not_after: minting.expires_at,
        ..Grant::in_org(caller.org.clone(), minting.actions())
    };
    let of_data: ActionSet = Action::ALL
        .iter()
        .copied()
        .filter(|a| a.resource() == "documents")
        .collect();
    let covers = |grant: &Grant| {
        let is_scope = grant.actions.intersection(of_data).is_empty() && grant.actions.contains(Action::TokensCreate);
        let mut grant = grant.clone();
        if is_scope {
            grant.actions = grant.actions.union(minted.actions);
        }
        if principal.kind == CredentialKind::UserToken {
            grant.not_after = None;
        }
        grant.covers(&minted)
    };
    match !principal.chain.is_empty() && principal.chain.iter().all(|grant| covers(grant)) {
        true => Ok(()),
        false => Err(Error::new(
            ErrorKind::Forbidden,
            "forbidden: the token would allow more, or last longer, than the credential that asks for it",
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::auth::Principal;
    use crate::auth::data_token::TokenOf;
    use crate::control::Role;
    use crate::model::OrgId;

    #[test]
    fn expirations_follow_the_grammar() {
        for (text, expected) in [
            ("", None),
            ("never", None),
            ("none", None),
            ("default", None),
            ("2w", Some(1_209_600)),
            ("7d", Some(604_800)),
            ("1w2d6h3m", Some(604_800 + 172_800 + 21_600 + 180)),
            ("1s", Some(1)),
            ("1500ms", Some(1)),
            ("1000000000ns", Some(1)),
            ("1m1m", Some(120)),
        ] {
            assert_eq!(expiration(text).expect(text), expected, "{text}");
        }
        for bad in [
            "0s",
            "999ms",
            "1",
            "w",
            "1y",
            "-1d",
            "1 d",
            "1d ",
            "1.5h",
            "tomorrow",
            "Never",
            "1d,2h",
            "1D",
            "18446744073709551616s",
            "18446744073709551615w",
            "\u{661}d",
            "999999999w",
        ] {
            assert_eq!(expiration(bad).expect_err(bad).kind, ErrorKind::Invalid, "{bad}");
        }
    }

    fn wish(authorization: &str, body: &str) -> Result<Wish> {
        let options = TokenOptions {
            expiration: None,
            authorization: Some(authorization.to_owned()),
        };
        Wish::parse(&options, &Fields::parse(body.as_bytes())?)
    }

    #[test]
    fn bodies_narrow_what_a_token_may_do() {
        let plain = wish("", r#"{"permissions":{"read_attach":{"databases":[]}}}"#).expect("the client's own");
        assert_eq!((plain.level, plain.permissions), (Level::FullAccess, None));
        assert_eq!(wish("read-only", "").expect("empty").level, Level::ReadOnly);
        let fine = r#"{"fine_grained_permissions":[{"t":null,"a":["data_read","data_add"]},{"a":["data_read"]}]}"#;
        let words = wish("full-access", fine).expect("known words").permissions;
        assert_eq!(words, Some(vec!["data_read".to_owned(), "data_add".to_owned()]));
        let nested = r#"{"permissions":{"fine_grained_permissions":[{"t":[],"a":[]}]}}"#;
        assert_eq!(wish("", nested).expect("nothing").permissions, Some(Vec::new()));
        for (authorization, body) in [
            ("all", ""),
            ("", r#"{"permissions":{"read_attach":{"databases":["other"]}}}"#),
            ("", r#"{"permissions":[]}"#),
            ("", r#"{"fine_grained_permissions":{}}"#),
            ("", r#"{"fine_grained_permissions":[1]}"#),
            ("", r#"{"fine_grained_permissions":[{"t":null}]}"#),
            (
                "",
                r#"{"fine_grained_permissions":[{"t":["users"],"a":["data_read"]}]}"#,
            ),
            ("", r#"{"fine_grained_permissions":[{"a":["data_fly"]}]}"#),
            ("", r#"{"fine_grained_permissions":[{"a":[1]}]}"#),
            ("read-only", r#"{"fine_grained_permissions":[{"a":["data_add"]}]}"#),
        ] {
            let error = wish(authorization, body).expect_err(body);
            assert_eq!(error.kind, ErrorKind::Invalid, "{authorization} {body}");
        }
    }

    fn caller(kind: CredentialKind, chain: Vec<Grant>) -> Caller {
        let org = OrgId::default_org();
        Caller {
            principal: Arc::new(Principal {
                kind,
                id: "t".into(),
                user: None,
                org: org.clone(),
                chain: chain.into_iter().map(Arc::new).collect(),
                embedded: None,
                token: None,
                restriction: None,
            }),
            org,
            ip: None,
            now: 1000,
        }
    }

    #[test]
    fn nobody_makes_a_token_that_allows_more_than_they_may() {
        let org = OrgId::default_org();
        let (g, h) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let role = |role: Role| Grant::in_org(org.clone(), role.actions());
        let until = |grant: Grant, end| Grant {
            not_after: Some(end),
            ..grant
        };
        let scope = |actions: &[Action]| Grant {
            group: Some(g),
            ..Grant::in_org(org.clone(), actions.iter().copied().collect())
        };
        let minting = |level, expires_at| Minting {
            org: &org,
            of: TokenOf::Namespace,
            id: Uuid::from_u128(3),
            name: "x",
            generation: 0,
            level,
            permissions: None,
            expires_at,
        };
        use CredentialKind::{Bootstrap, PlatformToken, UserToken};
        use Level::{FullAccess, ReadOnly};
        let mints = &[Action::TokensCreate];
        for (name, kind, chain, level, expires_at, group, allowed) in [
            ("root", Bootstrap, vec![], FullAccess, None, g, true),
            ("nobody", UserToken, vec![], ReadOnly, None, g, false),
            ("member", UserToken, vec![role(Role::Member)], FullAccess, None, g, true),
            (
                "session",
                UserToken,
                vec![until(role(Role::Member), 2000)],
                FullAccess,
                None,
                g,
                true,
            ),
            (
                "viewer",
                UserToken,
                vec![role(Role::Viewer)],
                FullAccess,
                None,
                g,
                false,
            ),
            (
                "ends",
                PlatformToken,
                vec![until(role(Role::Owner), 2000)],
                ReadOnly,
                None,
                g,
                false,
            ),
            (
                "ends",
                PlatformToken,
                vec![until(role(Role::Owner), 2000)],
                ReadOnly,
                Some(2001),
                g,
                false,
            ),
            (
                "ends",
                PlatformToken,
                vec![until(role(Role::Owner), 2000)],
                ReadOnly,
                Some(2000),
                g,
                true,
            ),
            (
                "scope",
                PlatformToken,
                vec![role(Role::Member), scope(mints)],
                FullAccess,
                None,
                g,
                true,
            ),
            (
                "group",
                PlatformToken,
                vec![role(Role::Member), scope(mints)],
                FullAccess,
                None,
                h,
                false,
            ),
            (
                "demoted",
                PlatformToken,
                vec![role(Role::Viewer), scope(mints)],
                FullAccess,
                None,
                g,
                false,
            ),
            (
                "no right",
                PlatformToken,
                vec![role(Role::Member), scope(&[])],
                ReadOnly,
                None,
                g,
                false,
            ),
            (
                "reads",
                PlatformToken,
                vec![role(Role::Member), scope(&[Action::DocumentsSearch])],
                FullAccess,
                None,
                g,
                false,
            ),
        ] {
            let minting = minting(level, expires_at);
            let found = check(&caller(kind, chain), &minting, Patterns::only("x"), group);
            assert_eq!(found.is_ok(), allowed, "{name}");
        }
        // Permissions count instead of the level.
        let schema = Minting {
            permissions: Some(vec!["schema_delete".into()]),
            ..minting(FullAccess, None)
        };
        let reader = caller(UserToken, vec![role(Role::Viewer)]);
        assert!(check(&reader, &schema, Patterns::only("x"), g).is_err());
    }
}
